import json

from histories import ME, histories
from hypothesis import given
from redline_agent.context.view import NO_RESULT, view
from redline_agent.events import ReplyReceived, RunStarted, durable_adapter
from redline_agent.messages import REDLINE, USER, Reply, Text, Thinking, ToolCall, ToolResult


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
