"""The conversation stays within its budget: passes, folding, refusals of the window, limits of money."""

import asyncio
import gc
import os
import sys
import time
from pathlib import Path

import pytest
from histories import ME, histories
from hypothesis import given
from hypothesis import strategies as st
from kit import call, carry_out, finish, lay, workspace
from redline_agent.config import Config
from redline_agent.context import passes, summary
from redline_agent.context.estimate import calibrate, raw_messages, raw_text
from redline_agent.context.gather import Task
from redline_agent.context.view import Conversation
from redline_agent.events import Compacted, Planned, ReplyReceived, RunStarted, Step, ToolFinished
from redline_agent.limits import Limits
from redline_agent.messages import REDLINE, USER, Label, Reply, Text, Thinking, ToolCall, ToolResult
from redline_agent.models.base import ReplyDone
from redline_agent.models.scripted import ScriptedModel

FILE = Label(source="workspace", detail="a.py")


def exchange(number, text, name="read"):
    made = ToolCall(id=f"c{number}", name=name, arguments=f'{{"path": "a.py", "start": {number}}}')
    return [
        ReplyReceived(turn=number, reply=Reply(model=ME, content=(made,), stop="tool_use")),
        ToolFinished(result=ToolResult(call_id=made.id, text=text, label=FILE), summary=""),
    ]


def started(text="the task"):
    return RunStarted(instruction=text, content=(Text(text=text, label=USER),), model=ME, prompt_digest="d", layers={})


def conversation_of(*texts):
    return Conversation.of([started(), *(e for n, text in enumerate(texts) for e in exchange(n, text))])


def test_dedupe_keeps_the_newest_of_the_same_text():
    conversation = conversation_of("same " * 50, "other " * 50, "same " * 50)
    cut = passes.dedupe(conversation, raw_text)
    assert set(cut.cleared) == {"c0"}
    assert "c2" in cut.cleared["c0"]
    assert cut.saved > 50
    assert "dedupe: 1 results" in str(cut)


def test_mask_clears_old_results_and_says_how_to_see_them():
    conversation = conversation_of(*(f"{n} " + "word " * 200 for n in range(10)))
    cut = passes.mask(conversation, raw_text)
    assert set(cut.cleared) == {f"c{n}" for n in range(10 - passes.KEEP_REPLIES)}
    assert all("read_more" in text for text in cut.cleared.values())


@given(histories(), st.integers(0, 4), st.booleans())
def test_a_compacted_conversation_is_as_well_formed_as_any(events, keep, folded):
    conversation = Conversation.of(events)
    cleared = {call.id: "[cleared]" for e in conversation.exchanges for call in e.calls}
    text = summary.as_text(summary.by_rule(conversation, keep), conversation.taint) if folded else None
    again = Conversation.of([*events, Compacted(cleared=cleared, summary=text, keep=keep)])
    messages = again.messages(ME)
    assert messages[0].role == "user"
    assert messages[0].content[0].text.startswith("task 0")
    assert all(a.role != b.role for a, b in zip(messages, messages[1:], strict=False))
    for at, message in enumerate(messages):
        made = [b.id for b in message.content if isinstance(b, ToolCall)]
        if made:
            assert [b.call_id for b in messages[at + 1].content if isinstance(b, ToolResult)] == made
    seen = [b.call_id for m in messages for b in m.content if isinstance(b, ToolResult)]
    assert len(seen) == len(set(seen))
    thoughts = [b.data for m in messages for b in m.content if isinstance(b, Thinking)]
    assert all(
        t in [b.data for m in conversation.messages(ME) for b in m.content if isinstance(b, Thinking)] for t in thoughts
    )
    assert again.taint == conversation.taint or set(conversation.taint.seen) <= set(again.taint.seen)


def test_the_current_plan_and_the_first_instruction_survive_a_fold():
    plan = Planned(steps=(Step(what="first", state="done"), Step(what="second")), label=REDLINE)
    events = [started(), *exchange(1, "a" * 5000), plan, *exchange(2, "b" * 5000), *exchange(3, "c")]
    conversation = Conversation.of(events)
    text = summary.as_text(summary.by_rule(conversation, 1), conversation.taint)
    folded = Conversation.of([*events, Compacted(summary=text, keep=1)]).messages(ME)
    shown = "\n".join(block.text for block in folded[0].content if isinstance(block, Text))
    assert "the task" in shown
    assert "[open] second" in shown
    assert raw_messages(folded) < raw_messages(conversation.messages(ME)) / 4


def test_a_summary_by_rule_has_what_is_certain():
    conversation = Conversation.of([
        started("make it faster"),
        *exchange(1, "x"),
        ReplyReceived(turn=2, reply=Reply(model=ME, content=(
            Text(text="I cache the result.", label=REDLINE),
            ToolCall(id="e1", name="edit", arguments='{"path": "b.py", "old": "1", "new": "2", "reason": "cached"}'),
        ), stop="tool_use")),
        ToolFinished(result=ToolResult(call_id="e1", text="Edited b.py", label=FILE), summary=""),
        *exchange(3, "y"),
    ])  # fmt: skip
    text = summary.by_rule(conversation, 1)
    for part in ("Goal:\n- make it faster", "I cache the result.", "b.py: edit: cached", "a.py: seen by read"):
        assert part in text


def long_script(count, size=3000):
    silent = {"input_tokens": 0, "output_tokens": 20}  # says nothing of the input, so the estimate stays as it is
    return [{**call("read", path="a.py", start=n, end=n + size // 60), "usage": silent} for n in range(1, count + 1)]


def run_long(folder, model, **config):
    lay(
        folder,
        {"a.py": "".join(f"line_{n} = 'some words that fill the line up to sixty characters'\n" for n in range(3000))},
    )
    settings = {"limits": Limits(turns_max=500, tokens_max=10**9), "validate": "never", "context_tokens_max": 12_000}
    return asyncio.run(carry_out(workspace(folder), model, "read it", config=Config(**{**settings, **config})))


def test_a_long_session_is_made_smaller_rarely_and_in_large_steps(folder):
    model = ScriptedModel([*long_script(60), finish("read")])
    run, events = run_long(folder, model)
    assert (run.state, run.answer) == ("answered", "read")
    compactions = [e for e in events if isinstance(e, Compacted)]
    assert 1 <= len(compactions) <= 12
    assert all(e.after_tokens < e.before_tokens * 0.7 for e in compactions)
    assert all(raw_messages(request.messages) < 13_000 for request in model.requests)
    assert all(request.messages[0].content[0].text == "read it" for request in model.requests)


def test_a_model_that_judges_writes_the_summary_without_tools(folder):
    class Summing(ScriptedModel):
        """Answers a request without tools with a summary, and keeps its script for the others."""

        summaries = 0

        async def stream(self, request):
            if not request.tools:
                self.summaries += 1
                other = ScriptedModel([{"text": "Goal: to read. Next step: go on."}], self.name)
                async for piece in other.stream(request):
                    yield piece
                return
            async for piece in super().stream(request):
                yield piece

    talking = [{**entry, "text": f"I think about {n}. " * 60} for n, entry in enumerate(long_script(60))]
    model = Summing([*talking, finish("read")], can={"judges": True})
    run, events = run_long(folder, model, plan="never")
    assert run.state == "answered"
    assert model.summaries == sum(e.summary is not None for e in events if isinstance(e, Compacted)) > 0
    folded = next(r for r in model.requests if "Goal: to read" in str(r.messages[0]))
    assert "From the journal:" in str(folded.messages[0])


@pytest.mark.parametrize("how", ["error", "stop"])
def test_a_refusal_of_the_window_compacts_and_tries_once(folder, how):
    refusal = {"error": "overflow"} if how == "error" else {"text": "", "stop": "context_exceeded"}
    model = ScriptedModel([*long_script(8), refusal, finish("done")])
    run, events = run_long(folder, model, context_tokens_max=100_000)
    assert (run.state, run.answer) == ("answered", "done")
    assert sum(isinstance(e, Compacted) for e in events) == 1
    assert raw_messages(model.requests[-1].messages) < raw_messages(model.requests[-2].messages)


def test_a_second_refusal_of_the_window_ends_the_run(folder):
    model = ScriptedModel([*long_script(8), {"error": "overflow"}, {"error": "overflow"}])
    run, _ = run_long(folder, model, context_tokens_max=100_000)
    assert run.state == "failed"
    assert "too large" in run.answer


def test_a_compaction_that_saves_too_little_is_an_error_and_no_loop(folder):
    big = "word " * 20_000
    model = ScriptedModel([{"text": big, "calls": [{"tool": "list", "args": {}}]}, *long_script(2), finish()])
    run, events = run_long(folder, model)
    assert run.state == "failed"
    assert "nothing of it can be left out" in run.answer
    assert sum(isinstance(e, Compacted) for e in events) <= 1


def test_a_result_that_is_clipped_or_cleared_can_be_read_on(folder):
    lay(folder, {"a.py": "".join(f"value_{n} = {n}\n" for n in range(6000))})
    model = ScriptedModel([
        call("search", pattern="value_"), call("read", path="a.py"), call("read_more", call="call-2-1", offset=10),
        call("read_more", call="nothing"), finish(),
    ])  # fmt: skip
    _, events = asyncio.run(carry_out(workspace(folder), model, "go"))
    texts = [(e.result.error, e.result.text) for e in events if e.type == "tool_result"]
    assert "value_" in texts[2][1]
    assert texts[3][0]
    assert "no result of a call" in texts[3][1]


class Dear(ScriptedModel):
    """Costs $10 a million tokens in, $50 out."""

    def cost_usd(self, usage):
        return (usage.total - usage.output_tokens) * 10e-6 + usage.output_tokens * 50e-6


@given(st.integers(1, 40))
def test_the_cost_limit_is_never_passed(tmp_path_factory, cents):
    folder = tmp_path_factory.mktemp("w") / "ws"
    folder.mkdir()
    lay(folder, {"a.py": "x = 1\n"})
    model = Dear([{**call("read", path="a.py", start=n), "usage": {"input_tokens": 1700, "output_tokens": 300}}
                  for n in range(1, 60)])  # fmt: skip
    run, _ = asyncio.run(carry_out(workspace(folder), model, "go", Limits(cost_usd_max=cents / 100)))
    assert (run.state, run.limit) in (("limit", "cost_usd_max"), ("limit", "turns_max"))
    assert run.meter.cost_usd <= cents / 100
    assert all(request.output_tokens_max <= 16_000 for request in model.requests)


def test_an_unknown_price_is_said_to_be_unknown(folder):
    class Unknown(ScriptedModel):
        def cost_usd(self, usage):
            return None

        def bound_usd(self, usage):
            return 0.001

    run, events = asyncio.run(carry_out(workspace(folder), Unknown([finish()]), "go"))
    assert events[-1].cost_usd is None
    assert run.meter.cost_usd == 0.001


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=60))
def test_calibration_takes_any_counts(pairs):
    calibration = calibrate(pairs)
    assert 0.4 <= calibration.factor <= 3.0
    assert calibration.error is None or calibration.error >= 0


class Endless(ScriptedModel):
    """Reads on and on, keeps nothing of what it was sent, and notes this process's memory and its own pace."""

    def __init__(self, turns):
        super().__init__([])
        self.turns, self.at = turns, 0
        self.memory, self.times = [], []

    async def stream(self, request):
        self.at += 1
        if self.at % (self.turns // 10) == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
            self.times.append(time.monotonic())
        entry = call("read", path="a.py", start=self.at % 2000 + 1, end=self.at % 2000 + 20)
        reply = self._reply({**(entry if self.at < self.turns else finish("enough")), "usage": {}}, self.at)
        yield ReplyDone(reply)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_session_of_thousands_of_turns_takes_bounded_memory_and_time(folder):
    """10,000 turns with REDLINE_EXAMPLES=deep."""
    turns = 10_000 if os.environ.get("REDLINE_EXAMPLES") == "deep" else 2_000
    lay(folder, {"a.py": "".join(f"line_{n} = 'some words that fill the line up'\n" for n in range(2100))})
    model = Endless(turns)
    limits = Limits(turns_max=turns + 1, tokens_max=10**12, minutes_max=60)
    config = Config(limits=limits, validate="never", context_tokens_max=12_000)

    async def go():
        ws = workspace(folder)
        run = ws.new_run(Task("go"), model, config)
        async for _ in ws.carry_out(run, model):
            pass
        return run

    run = asyncio.run(go())
    assert (run.state, run.answer, run.meter.turns) == ("answered", "enough", turns)
    assert model.memory[-1] < model.memory[1] * 1.1
    early, late = (model.times[at] - model.times[at - 1] for at in (2, -1))
    print(
        f"memory {model.memory[1] / 1e6:.0f} to {model.memory[-1] / 1e6:.0f} MB, {early:.1f} then {late:.1f} s a tenth"
    )
    assert late < early * 2
