"""Making a conversation smaller: pure passes, each of which says what it cut and what that saves.

In order: `dedupe` (a text that a later result has again), `mask` (old outputs), and, where those do not save enough,
`fold` (all but the newest replies, for a summary to stand for). They act when the trigger is reached, and then go
down to the target in one step, since each of them costs the provider's cached prefix. (`clip`, the first of the
passes, is at the source: tools/base.py.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redline_agent.context.view import Conversation, Exchange
from redline_agent.messages import ToolCall, ToolResult
from redline_agent.text import one_line

Measure = Callable[[str], float]

KEEP_REPLIES = 4
"""Results of the newest replies are never masked."""
SMALL_CHARS = 400
"""A result below this is not worth a line in its place."""
SHARE_TARGET = 0.45
"""What is left after a compaction, as a share of the trigger."""
SHARE_ENOUGH = 0.85
"""A compaction that leaves more than this share of the trigger has failed."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What one pass did: the lines that stand for results, and the tokens that it saves."""

    name: str
    cleared: dict[str, str] = field(default_factory=dict[str, str])
    saved: float = 0.0

    def __str__(self) -> str:
        """Explain the pass in words."""
        return f"{self.name}: {len(self.cleared)} results, {self.saved:,.0f} tokens saved"


def dedupe(conversation: Conversation, measure: Measure) -> Cut:
    """Clear results whose whole text a later result of the same tool has again."""
    newest: dict[tuple[str, str], str] = {}
    cleared: dict[str, str] = {}
    saved = 0.0
    for call, result in reversed(list(_results(conversation))):
        key = (call.name, result.text)
        if key in newest:
            stub = f"[the same as the result of {newest[key]}, further down]"
            if len(result.text) > len(stub):
                cleared[call.id] = stub
                saved += measure(result.text) - measure(stub)
        else:
            newest[key] = call.id
    return Cut("dedupe", cleared, saved)


def mask(conversation: Conversation, measure: Measure) -> Cut:
    """Clear the results of all but the newest replies."""
    recent = {call.id for exchange in conversation.exchanges[-KEEP_REPLIES:] for call in exchange.calls}
    cleared: dict[str, str] = {}
    saved = 0.0
    for call, result in _results(conversation):
        if call.id in recent or len(result.text) <= SMALL_CHARS:
            continue
        first = one_line(result.text.partition("\n")[0], 100)
        stub = f"[cleared to save room: {first} ... `read_more` with call {call.id} shows it again]"
        cleared[call.id] = stub
        saved += measure(result.text) - measure(stub)
    return Cut("mask", cleared, saved)


def fold(conversation: Conversation, measure: Callable[[Exchange], float], room: float) -> int:
    """Return how many of the newest replies to keep: as many as fit the room, at least one."""
    keep, size = 0, 0.0
    for exchange in reversed(conversation.exchanges):
        size += measure(exchange)
        if keep and size > room:
            break
        keep += 1
    return keep


def _results(conversation: Conversation) -> list[tuple[ToolCall, ToolResult]]:
    """Results that are still shown whole, with their calls, oldest first."""
    return [
        (call, exchange.results[call.id])
        for exchange in conversation.exchanges
        for call in exchange.calls
        if call.id in exchange.results and call.id not in conversation.cleared
    ]
