"""How many tokens a request has, before anybody says so: from its bytes, calibrated against what replies report.

No public tokenizer is a vendor's own, and an exact one takes 77 MB, so the raw count is by bytes: 3.6 of ASCII text a
token, 2 of any other. Each model's factor is the median of what it reported over what was counted; the error that is
left is shown by `redline usage`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from redline_agent.messages import Message, Text, Thinking, ToolCall, ToolResult
from redline_agent.models.base import SystemPart, ToolSpec

ASCII_BYTES, OTHER_BYTES = 3.6, 2.0
BLOCK_TOKENS, FENCE_TOKENS = 4, 24
Pair = tuple[int, int, int]
"""What was counted of a request, what was expected after calibration, what its reply reported."""
PAIRS_MAX = 50
"""How many of the newest replies a factor is made of."""
_FACTOR_LEAST, _FACTOR_MOST = 0.4, 3.0


def raw_text(text: str) -> float:
    """Tokens of a text, uncalibrated."""
    if text.isascii():
        return len(text) / ASCII_BYTES
    encoded = len(text.encode("utf-8", "surrogatepass"))
    plain = sum(char < "\x80" for char in text)
    return plain / ASCII_BYTES + (encoded - plain) / OTHER_BYTES


def raw_block(block: object) -> float:
    """Tokens of one block of a message, uncalibrated."""
    match block:
        case Text() | ToolResult():
            fence = 0 if block.label.source in ("user", "model", "redline") else FENCE_TOKENS
            return BLOCK_TOKENS + fence + raw_text(block.text)
        case ToolCall():
            return BLOCK_TOKENS * 2 + raw_text(block.name) + raw_text(block.arguments)
        case Thinking():
            return BLOCK_TOKENS + raw_text(json.dumps(block.data))
        case _:
            return 0.0


def raw_messages(messages: Iterable[Message]) -> float:
    """Tokens of messages, uncalibrated."""
    return sum(BLOCK_TOKENS + sum(raw_block(block) for block in message.content) for message in messages)


def raw_fixed(system: Sequence[SystemPart], tools: Sequence[ToolSpec]) -> float:
    """Tokens of what every request of a run begins with, uncalibrated."""
    schemas = sum(raw_text(tool.name + tool.description + json.dumps(tool.schema)) for tool in tools)
    return sum(raw_text(part.text) for part in system) + schemas + BLOCK_TOKENS * len(tools)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A model's factor, of how many replies it is made, and the median error of what was expected (0.05 is 5%)."""

    factor: float = 1.0
    replies: int = 0
    error: float | None = None

    def tokens(self, raw: float) -> int:
        """Tokens that a raw count stands for."""
        return round(raw * self.factor)


def calibrate(pairs: Iterable[Pair]) -> Calibration:
    """Return the calibration of (raw, expected, reported) token counts, oldest first; counts of 0 say nothing."""
    known = [pair for pair in pairs if pair[0] > 0 and pair[2] > 0][-PAIRS_MAX:]
    if not known:
        return Calibration()
    factor = median(reported / raw for raw, _, reported in known)
    errors = [abs(expected - reported) / reported for _, expected, reported in known if expected > 0]
    error = median(errors) if errors else None
    return Calibration(min(max(factor, _FACTOR_LEAST), _FACTOR_MOST), len(known), error)
