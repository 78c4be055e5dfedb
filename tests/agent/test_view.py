import json

from hypothesis import given
from hypothesis import strategies as st
from redline_agent.context.view import NO_RESULT, view
from redline_agent.events import ReplyReceived, RunStarted, Said, ToolFinished, durable_adapter
from redline_agent.messages import MODEL, REDLINE, USER, Reply, Text, Thinking, ToolCall, ToolResult

ME = "provider:me"


@st.composite
def histories(draw):
    """A session's events as the loop writes them, cut off anywhere."""
    events, calls = [], 0
    for run in range(draw(st.integers(1, 3))):
        content = (Text(text=f"task {run}", label=USER),)
        events.append(RunStarted(instruction=f"task {run}", content=content, model=ME, prompt_digest="d", layers={}))
        for turn in range(draw(st.integers(0, 4))):
            made = [ToolCall(id=f"c{calls + n}", name="read", arguments="{}") for n in range(draw(st.integers(0, 3)))]
            calls += len(made)
            blocks = []
            if draw(st.booleans()):
                model = draw(st.sampled_from([ME, "provider:other"]))
                blocks.append(
                    Thinking(model=model, data={"type": "thinking", "thinking": "…\u2028", "signature": f"s{calls}"})
                )
            blocks.append(Text(text=draw(st.sampled_from(["", "words", " "])), label=MODEL))
            stop = draw(st.sampled_from(["tool_use", "end_turn", "max_tokens", "refusal", "pause_turn"]))
            events.append(ReplyReceived(turn=turn, reply=Reply(model=ME, content=(*blocks, *made), stop=stop)))
            if stop in ("tool_use", "end_turn", "pause_turn"):
                done = draw(st.integers(0, len(made)))
                events += [
                    ToolFinished(result=ToolResult(call_id=c.id, text="r", label=REDLINE), summary="")
                    for c in made[:done]
                ]
                if done < len(made):
                    break
            if draw(st.booleans()):
                events.append(Said(text=Text(text="steer", label=USER)))
    return events[: draw(st.integers(1, len(events)))]


@given(histories())
def test_what_the_model_sees_is_always_well_formed(events):
    messages = view(events, model=ME)
    assert messages[0].role == "user"
    assert all(a.role != b.role for a, b in zip(messages, messages[1:], strict=False))
    for at, message in enumerate(messages):
        made = [b.id for b in message.content if isinstance(b, ToolCall)]
        if made:
            following = messages[at + 1].content
            assert [b.call_id for b in following if isinstance(b, ToolResult)] == made
            assert all(isinstance(b, ToolResult) for b in following[: len(made)])
        assert message.content
    answered = [b.call_id for m in messages for b in m.content if isinstance(b, ToolResult)]
    assert len(answered) == len(set(answered))
    assert all(b.model == ME for m in messages for b in m.content if isinstance(b, Thinking))


@given(histories())
def test_the_journal_gives_back_the_same_view(events):
    again = [durable_adapter.validate_json(event.model_dump_json()) for event in events]
    assert view(again, model=ME) == view(events, model=ME)
    thinking = [b.data for m in view(again, model=ME) for b in m.content if isinstance(b, Thinking)]
    assert all(json.loads(json.dumps(data)) == data for data in thinking)


def test_a_call_that_was_cut_off_has_an_error_result():
    call = ToolCall(id="c1", name="read", arguments="{}")
    started = RunStarted(instruction="t", content=(Text(text="t", label=USER),), model=ME, prompt_digest="d", layers={})
    messages = view([started, ReplyReceived(turn=1, reply=Reply(model=ME, content=(call,), stop="tool_use"))], model=ME)
    assert messages[-1].content == (ToolResult(call_id="c1", text=NO_RESULT, error=True, label=REDLINE),)
