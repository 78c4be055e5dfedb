"""Runs that were cut off go on; sessions are forked, folded, exported and brought in again."""

import asyncio
import json

import pytest
from kit import call, carry_out, disk, finish, lay, proposed_text, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.context.view import Conversation
from redline_agent.errors import JournalError, UsageError
from redline_agent.events import Copied, GateDecided, ReplyReceived, RunEnded, TurnStarted
from redline_agent.history import calibration_of, export, fork, import_session, turns_of, usage
from redline_agent.models.pool import Pool
from redline_agent.models.scripted import ScriptedModel

FILES = {"a.py": "def f():\n    return 1\n", "b.py": "x = 1\r\ny = 2\r\n", "c.py": "z = 1\n"}
SCRIPT = [
    call("read", path="a.py"),
    {"calls": [
        {"tool": "edit", "args": {"path": "a.py", "old": "return 1", "new": "return 2", "reason": "two"}},
        {"tool": "edit", "args": {"path": "b.py", "old": "x = 1", "new": "x = 3"}},
    ]},
    call("move", path="c.py", to="d.py"),
    call("edit", path="nowhere.py", old="a", new="b"),
    call("write", path="new.py", content="n = 1\n"),
    call("edit", path="a.py", old="return 2", new="return 3"),
    finish("all done"),
]  # fmt: skip
CONFIG = Config(validate="never")


class Rest(ScriptedModel):
    """Plays a script from where a journal left it: what had been received is not asked for again."""

    def __init__(self, replies, received):
        super().__init__(replies[received:])
        self._before = received

    def _reply(self, entry, at):
        return super()._reply(entry, at + self._before)


def received(ws, run):
    return sum(isinstance(event, ReplyReceived) for event in ws.journal.of_run(run))


async def cut_after(ws, count, config=CONFIG):
    """Start the scripted run and drop it, as a process does that dies, after some of its events."""
    model = ScriptedModel(SCRIPT)
    run = ws.new_run(Task("go"), model, config)
    record = ws.journal.append
    left = count

    class Died(BaseException):
        pass

    def append(session, ident, *events):
        nonlocal left
        if left <= 0:
            raise Died
        left -= 1
        record(session, ident, *events)

    ws.journal.append = append
    try:
        async for _ in ws.carry_out(run, model):
            pass
        return run, True
    except Died:
        return run, False
    finally:
        ws.journal.append = record
        if not any(isinstance(e, RunEnded) for e in ws.journal.of_run(run.id)) and ws.journal.of_run(run.id):
            record(run.session, run.id, RunEnded(state="interrupted"))


def everything(run):
    proposal = run.proposal
    texts = {path: proposed_text(run, path) for path in proposal.files}
    origins = {h.path: (h.reason, h.origin.tool, h.origin.turn) for h in proposal.hunks}
    operations = sorted((op.kind, op.path, op.new_path, op.file.text if op.file else "") for op in proposal.operations)
    return texts, origins, operations


def test_a_run_cut_off_at_any_write_goes_on_to_the_same_end_and_asks_for_nothing_again(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    whole, _ = asyncio.run(carry_out(ws, ScriptedModel(SCRIPT), "go"))
    wanted = everything(whole)
    assert disk(folder) == {name: text.replace("\r\n", "\r\n") for name, text in FILES.items()}
    for count in range(1, 200):
        run, ended = asyncio.run(cut_after(ws, count))
        if ended:
            assert count > 20
            return
        had = received(ws, run.id)
        again = ws.resume(ws.cut_off(run.session), CONFIG)
        model = Rest(SCRIPT, had)
        asyncio.run(drain(ws.carry_out(again, model)))
        assert (again.state, again.answer) == ("proposed", "all done"), count
        assert len(model.requests) == len(SCRIPT) - had, count
        assert everything(again) == wanted, count
        assert again.meter.turns == len(SCRIPT)
        assert disk(folder) == FILES
    pytest.fail("a run of 200 writes?")


async def drain(events):
    return [event async for event in events]


def test_a_resumed_run_still_notices_what_the_user_changed_meanwhile(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    script = [call("read", path="a.py"), call("write", path="a.py", content="mine\n"), finish()]
    model = ScriptedModel(script[:1])
    run = ws.new_run(Task("go"), model, CONFIG)
    asyncio.run(drain(ws.carry_out(run, model)))  # the script ends, so the run fails
    assert run.state == "failed"
    (folder / "a.py").write_text("the user's\n")
    again = ws.resume(ws.cut_off(), CONFIG)
    events = asyncio.run(drain(ws.carry_out(again, ScriptedModel(script[1:]))))
    (error,) = [e.result.text for e in events if e.type == "tool_result" and e.result.error]
    assert "changed since it was read" in error


def test_nothing_to_resume_is_said(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    with pytest.raises(UsageError, match="No run here was cut off"):
        ws.cut_off()
    with pytest.raises(UsageError, match="no session 'nope'"):
        ws.cut_off("nope")


def test_a_fork_has_the_turns_up_to_its_place_and_none_of_the_decisions(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    run, _ = asyncio.run(carry_out(ws, ScriptedModel(SCRIPT), "go"))
    for at in range(turns_of(ws.journal.of_run(run.id)) + 1):
        made = fork(ws.journal, run.session, at)
        events = [event for _, event in ws.journal.of_session(made)]
        assert isinstance(events[0], Copied)
        assert turns_of(events) == at
        assert not any(event.type in ("proposed", "decided") for event in events)
        conversation = Conversation.of(events)
        assert all(not exchange.open_calls for exchange in conversation.exchanges)
        model = ScriptedModel([finish("forked")])
        other, _ = asyncio.run(carry_out(ws, model, "and now this", session=made))
        assert (other.state, other.answer) == ("answered", "forked")
        assert model.requests[0].messages[0].content[0].text == "go"
    with pytest.raises(UsageError, match="cannot be forked at 99"):
        fork(ws.journal, run.session, 99)


def test_an_export_comes_in_again_tainted_and_without_grants(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    run, _ = asyncio.run(carry_out(ws, ScriptedModel(SCRIPT), "go"))
    lines = list(export(ws.journal, run.session))
    assert all(json.loads(line) for line in lines)
    made = import_session(ws.journal, lines)
    events = [event for _, event in ws.journal.of_session(made)]
    assert turns_of(events) == len(SCRIPT)
    assert not any(isinstance(event, GateDecided) for event in events)
    for copy in (made, fork(ws.journal, run.session, 1)):
        with pytest.raises(UsageError, match="No run here was cut off"):
            ws.cut_off(copy)  # else a file's own calls would be carried out
    conversation = Conversation.of(events)
    assert conversation.taint.tainted
    assert {block.label.source for m in conversation.messages("x") for block in m.content if hasattr(block, "label")} <= {
        "web", "model"
    }  # fmt: skip
    assert ws.proposals()
    assert all(p.run == run.id for p in ws.proposals())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{}"], "not a session"),
        (["not json"], "Line 1"),
        (['{"format": "redline-session", "version": 1}', '{"run": "r", "event": {"type": "magic"}}'], "Line 2"),
        (['{"format": "redline-session", "version": 1}', '{"event": 3}'], "Line 2"),
        (['{"format": "redline-session", "version": 1}'], "no run in it"),
    ],
)
def test_a_file_that_is_no_session_brings_nothing_in(folder, lines, says):
    ws = workspace(folder)
    with pytest.raises(JournalError, match=says):
        import_session(ws.journal, lines)
    assert ws.journal.rows("SELECT count(*) FROM event") == [(0,)]


def test_usage_counts_by_day_session_run_and_model_and_what_was_lost(folder):
    lay(folder, FILES)
    ws = workspace(folder)
    usage_of = {"input_tokens": 10, "cache_read_tokens": 90, "output_tokens": 5}
    script = [{**call("read", path="a.py"), "usage": usage_of}, {**finish(), "usage": usage_of}]
    run, _ = asyncio.run(carry_out(ws, ScriptedModel(script), "go"))
    ws.journal.append(run.session, run.id, TurnStarted(turn=3, model="scripted:inline"))
    found = usage(ws.journal)
    (session,) = found.sessions
    assert (session.requests, session.input_tokens, session.cached_tokens, session.output_tokens) == (2, 200, 180, 10)
    assert (session.cached_share, session.lost, session.cost_usd) == (0.9, 1, 0.0)
    assert [each.name for each in found.runs] == [run.id]
    assert len(found.days) == len(found.models) == 1


def test_the_estimate_is_calibrated_by_what_replies_report(folder):
    lay(folder, FILES)
    ws = workspace(folder)

    class Twice(ScriptedModel):
        """Reports twice the tokens that are counted."""

        def _reply(self, entry, at):
            reply = super()._reply(entry, at)
            raw = [e.raw_tokens for e in ws.journal.of_run(run.id) if isinstance(e, TurnStarted)][-1]
            return reply.model_copy(update={"usage": reply.usage.model_copy(update={"input_tokens": raw * 2})})

    model = Twice([call("read", path="a.py", start=n) for n in range(1, 6)] + [finish()])
    run = ws.new_run(Task("go"), model, CONFIG)
    asyncio.run(drain(ws.carry_out(run, model)))
    calibration = calibration_of(ws.journal, model.name)
    assert calibration.factor == pytest.approx(2, rel=0.01)
    assert calibration.replies == 6
    assert calibration.error < 0.02


def test_a_session_is_folded_on_the_users_word(folder):
    lay(folder, {"a.py": "x = 1\n" * 500})
    ws = workspace(folder)
    script = [call("read", path="a.py", start=n) for n in range(1, 9)]
    run, _ = asyncio.run(carry_out(ws, ScriptedModel([*script, finish("read it all")]), "look at everything"))

    class Named(Pool):
        def get(self, name):
            return ScriptedModel([])

    event = asyncio.run(ws.compact(run.session, CONFIG, Named()))
    assert event.after_tokens < event.before_tokens * 0.6
    model = ScriptedModel([finish()])
    asyncio.run(carry_out(ws, model, "and now this", session=run.session))
    sent = model.requests[0].messages
    assert sent[0].content[0].text == "look at everything"
    assert sent[-1].content[-1].text == "and now this"
