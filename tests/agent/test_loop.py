import asyncio

import pytest
from kit import call, carry_out, disk, finish, lay, play, proposed_text, results, workspace
from redline_agent.context.gather import Task
from redline_agent.errors import JournalError
from redline_agent.limits import Limits
from redline_agent.models.scripted import ScriptedModel

FILES = {"a.py": "def f():\n    return 1\n", "b.py": "x = 1\n"}
EDIT = call("edit", path="a.py", old="return 1", new="return 2", reason="two is better")


def test_a_run_reads_edits_and_proposes(folder):
    lay(folder, FILES)
    run, events, _ = play(folder, [call("read", path="a.py"), EDIT, finish("changed it")])
    assert (run.state, run.answer) == ("proposed", "changed it")
    assert proposed_text(run, "a.py") == "def f():\n    return 2\n"
    (hunk,) = run.proposal.hunks
    assert (hunk.reason, hunk.origin.tool, hunk.origin.turn) == ("two is better", "edit", 2)
    assert disk(folder) == FILES
    assert [e.type for e in events if e.type in ("outcome", "proposed")] == ["proposed", "outcome"]


def test_parallel_calls_get_their_results_in_order(folder):
    lay(folder, FILES)
    both = {"calls": [{"tool": "read", "args": {"path": "b.py"}}, {"tool": "read", "args": {"path": "a.py"}}]}
    _, _, model = play(folder, [both, finish()])
    sent = model.requests[1].messages[-1].content
    assert [block.call_id for block in sent] == ["call-1-1", "call-1-2"]
    assert [block.text.split(":")[0] for block in sent] == ["b.py", "a.py"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"calls": [{"tool": "edit", "raw": '{"path": "a.py", "old": '}]}, "not valid JSON"),
        ({"calls": [{"tool": "edit", "raw": "[1]"}]}, "arguments of edit are wrong"),
        (call("edit", path="a.py"), "old: Field required"),
        (call("edit", path="a.py", old="x", new="y", extra=1), "extra: Extra inputs"),
        (call("shell", command="ls"), "no tool 'shell'"),
        (call("read", path="missing.py"), "There is no file missing.py"),
        (call("read", path="."), "is a folder"),
        (call("edit", path="a.py", old="return", new="return"), "nothing would change"),
        (call("move", path="a.py", to="b.py"), "exists already"),
        (call("search", pattern="("), "not a regular expression"),
        (call("rename_symbol", path="a.py", old="f", new="not a name"), "new: String should match"),
    ],
)
def test_a_wrong_call_is_told_to_the_model_and_the_run_goes_on(folder, entry, says):
    lay(folder, FILES)
    run, events, _ = play(folder, [entry, EDIT, finish()])
    (error, text), *_ = results(events)
    assert error
    assert says in text
    assert run.state == "proposed"


def test_half_a_call_is_never_carried_out(folder):
    lay(folder, FILES)
    cut = {"calls": [{"tool": "delete", "raw": '{"path": "a.py"}'}], "stop": "max_tokens"}
    run, events, model = play(folder, [cut, finish("gave up")])
    assert [e for e in events if e.type == "tool_started"][0].call.name == "finish"
    assert "cut off" in model.requests[1].messages[-1].content[-1].text
    assert run.proposal is None


def test_replies_that_are_always_cut_end_the_run(folder):
    run, _, model = play(folder, [{"text": "a", "stop": "max_tokens"}] * 5)
    assert run.state == "failed"
    assert "cut at their length limit" in run.answer
    assert len(model.requests) == 3


def test_a_refusal_ends_cleanly_with_its_reason(folder):
    run, _, _ = play(folder, [{"text": "", "stop": "refusal", "note": "I may not."}])
    assert (run.state, run.answer) == ("refused", "I may not.")


def test_a_pause_is_resumed(folder):
    run, _, model = play(folder, [{"text": "thinking it over", "stop": "pause_turn"}, finish("done")])
    assert (run.state, len(model.requests)) == ("answered", 2)
    assert model.requests[1].messages[-1].role == "assistant"


@pytest.mark.parametrize("kind", ["overloaded", "dropped", "unreachable"])
def test_a_passing_failure_is_tried_again_after_the_wait_it_asked_for(folder, kind):
    lay(folder, FILES)
    run, events, model = play(folder, [{"error": kind, "retry_after_s": 0.01}, EDIT, finish()])
    (retry,) = [e for e in events if e.type == "retrying"]
    assert (run.state, retry.attempt, len(model.requests)) == ("proposed", 1, 3)
    assert model.requests[0] == model.requests[1]


def test_a_failure_that_does_not_pass_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr("redline_agent.asking.RETRIES_MAX", 2)
    run, _, model = play(folder, [{"error": "overloaded", "retry_after_s": 0.0}] * 5)
    assert (run.state, len(model.requests)) == ("failed", 3)
    assert "Gave up after 3 tries" in run.answer


def test_a_request_that_is_too_large_says_so(folder):
    run, _, _ = play(folder, [{"error": "overflow"}])
    assert (run.state, run.answer) == ("failed", "The request is too large for the model.")


def test_the_same_call_again_and_again_is_stopped(folder):
    lay(folder, FILES)
    run, _, model = play(folder, [call("read", path="a.py")] * 10)
    assert (run.state, run.limit, len(model.requests)) == ("limit", "identical_calls", 5)


@pytest.mark.parametrize(
    ("limits", "name", "requests"),
    [
        (Limits(turns_max=2), "turns_max", 2),
        (Limits(tokens_max=240), "tokens_max", 2),
        (Limits(minutes_max=0.00001), "minutes_max", 0),
    ],
)
def test_limits_are_hard(folder, limits, name, requests):
    lay(folder, FILES)
    script = [call("read", path="a.py", start=n) for n in range(1, 9)]
    run, _, model = play(folder, script, limits=limits)
    assert (run.state, run.limit, len(model.requests)) == ("limit", name, requests)
    assert name in run.answer


def test_a_cost_limit_is_hard(folder):
    class Dear(ScriptedModel):
        def cost_usd(self, usage):
            return 0.4

    model = Dear([call("list")] * 9)
    run, _ = asyncio.run(carry_out(workspace(folder), model, "go", Limits(cost_usd_max=1.0)))
    assert (run.state, run.limit, len(model.requests)) == ("limit", "cost_usd_max", 2)


def test_steering_reaches_the_next_turn(folder):
    lay(folder, FILES)
    model = ScriptedModel([call("read", path="a.py"), finish()])

    async def go():
        ws = workspace(folder)
        from redline_agent.config import Config

        run = ws.new_run(Task("go"), model, Config())
        async for event in ws.carry_out(run, model):
            if event.type == "tool_result" and run.state == "running" and run.meter.turns == 1:
                run.steer("use tabs")
        return run

    run = asyncio.run(go())
    assert run.state == "answered"
    assert model.requests[1].messages[-1].content[-1].text == "use tabs"
    assert model.requests[1].messages[-1].content[-1].label.source == "user"


def test_a_model_that_only_talks_answers(folder):
    run, _, _ = play(folder, [{"text": "It is 42."}])
    assert (run.state, run.answer, run.proposal) == ("answered", "It is 42.", None)


def test_the_directive_line_goes_with_the_proposal(folder):
    lay(folder, {"a.py": "x = 1\n# redline: double it\ny = 2\n"})
    task = Task("double it", file="a.py", directive_line=2)
    run, _, _ = play(folder, [call("edit", path="a.py", old="y = 2", new="y = 4"), finish()], task)
    assert proposed_text(run, "a.py") == "x = 1\ny = 4\n"


def test_a_new_session_run_sees_what_went_before(folder):
    lay(folder, FILES)

    async def go():
        ws = workspace(folder)
        first, _ = await carry_out(ws, ScriptedModel([finish("first")]), "one")
        model = ScriptedModel([finish("second")])
        await carry_out(ws, model, "two", session=first.session)
        return model

    sent = asyncio.run(go()).requests[0].messages
    assert [m.role for m in sent] == ["user", "assistant", "user"]
    assert sent[-1].content[-1].text == "two"


def test_a_journal_that_cannot_be_written_ends_the_run_and_loses_nothing(folder, monkeypatch):
    lay(folder, FILES)
    ws = workspace(folder)
    count = 0
    append = ws.journal.append

    def full(*args):
        nonlocal count
        count += 1
        if count > 4:
            raise JournalError("The disk is full.")
        append(*args)

    monkeypatch.setattr(ws.journal, "append", full)
    run, events = asyncio.run(carry_out(ws, ScriptedModel([call("read", path="a.py"), EDIT, finish()]), "go"))
    assert (run.state, events[-1].type, events[-1].answer) == ("failed", "outcome", "The disk is full.")
    assert disk(folder) == FILES


def test_an_untitled_finish_is_still_an_end(folder):
    run, _, model = play(folder, [finish(""), finish("never asked")])
    assert (run.state, run.answer, len(model.requests)) == ("answered", "Done.", 1)
