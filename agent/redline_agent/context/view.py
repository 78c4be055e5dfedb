"""The view: a pure function from a session's events to the messages that the model sees.

Its invariants hold for any history, cut off anywhere: roles alternate and the user speaks first and last; each
call has exactly one result, right after it and in the order of the calls; thinking is byte-identical, or, for
another model than the one that made it, left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from redline_agent.events import Durable, ReplyReceived, RunStarted, Said, ToolFinished
from redline_agent.messages import REDLINE, Block, Message, Reply, Text, Thinking, ToolCall, ToolResult

NO_RESULT = "This call was not carried out: the run was cut off before it ended."


def view(events: Iterable[Durable], *, model: str) -> list[Message]:
    """Messages for `model`, oldest first."""
    events = list(events)
    results = {event.result.call_id: event.result for event in events if isinstance(event, ToolFinished)}
    messages: list[Message] = []
    for event in events:
        match event:
            case RunStarted():
                _say(messages, "user", event.content)
            case Said():
                _say(messages, "user", (event.text,))
            case ReplyReceived():
                _reply(messages, event.reply, results, model)
            case _:
                pass
    return messages


def _reply(messages: list[Message], reply: Reply, results: dict[str, ToolResult], model: str) -> None:
    content = [block for block in reply.content if not (isinstance(block, Thinking) and block.model != model)]
    if reply.stop in ("max_tokens", "context_exceeded", "refusal"):
        # What was cut or refused is shown without its calls: half a call is never carried out.
        content = [block for block in content if not isinstance(block, ToolCall | Thinking)]
    content = [block for block in content if not (isinstance(block, Text) and not block.text.strip())]
    if not content:
        return
    _say(messages, "assistant", content)
    calls = [block for block in content if isinstance(block, ToolCall)]
    if calls:
        missing = {call.id: ToolResult(call_id=call.id, text=NO_RESULT, error=True, label=REDLINE) for call in calls}
        _say(messages, "user", [results.get(call.id, missing[call.id]) for call in calls])


def _say(messages: list[Message], role: str, content: Iterable[Block]) -> None:
    content = tuple(content)
    if messages and messages[-1].role == role:
        # Results come before any words in a user's message, as providers demand.
        joined = messages[-1].content + content
        if role == "user":
            joined = tuple(sorted(joined, key=lambda block: not isinstance(block, ToolResult)))
        messages[-1] = Message(role=messages[-1].role, content=joined)
    elif role == "user":
        messages.append(Message(role="user", content=content))
    else:
        messages.append(Message(role="assistant", content=content))
