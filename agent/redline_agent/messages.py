"""The conversation, structured: what is said, by whom, and where each piece of text came from.

Providers' own types end in their adapters; these are what the loop, the journal and the view know.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from redline_agent.text import one_line

Source = Literal["user", "workspace", "command", "web", "mcp", "model", "redline"]
Stop = Literal["end_turn", "tool_use", "max_tokens", "pause_turn", "refusal", "context_exceeded"]


class Frozen(BaseModel):
    """Base of all values here: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Label(Frozen):
    """Where a piece of context came from (`detail`: which file or tool) and whether it is secret.

    `role`: words of one of Redline's own roles; they taint as what it has read does, but are not material.
    """

    source: Source
    detail: str = ""
    secret: bool = False
    role: bool = False


UNTRUSTED: frozenset[Source] = frozenset({"workspace", "command", "web", "mcp"})
"""Sources whose words are material, never instructions."""

USER = Label(source="user")
MODEL = Label(source="model")
REDLINE = Label(source="redline")


class Text(Frozen):
    """Words of the user, of the model or of the context."""

    type: Literal["text"] = "text"
    text: str
    label: Label


class Thinking(Frozen):
    """A provider's thinking block, kept exactly as it came, for the model that made it alone."""

    type: Literal["thinking"] = "thinking"
    model: str
    data: dict[str, Any]


class ToolCall(Frozen):
    """A tool call; `arguments` is the JSON text as the model wrote it, valid or not."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: str


class ToolResult(Frozen):
    """The one result of a call."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    text: str
    error: bool = False
    label: Label


Block = Annotated[Text | Thinking | ToolCall | ToolResult, Field(discriminator="type")]


def as_sent(block: Text | ToolResult) -> str:
    """Return the block's text for a model: what is not the user's or Redline's stands between fences that say whose
    it is.

    The mark is the text's own digest, so no text can hold the end of its own fence, and the same text is sent the
    same way.
    """
    if block.label.source not in UNTRUSTED or block.label.role:
        return block.text
    mark = hashlib.sha256(block.text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    whose = block.label.source + (f": {one_line(block.label.detail)}" if block.label.detail else "")
    return f"<material {mark} from {json.dumps(whose, ensure_ascii=False)}>\n{block.text}\n</material {mark}>"


class Message(Frozen):
    """One side's turn."""

    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


class Usage(Frozen):
    """Tokens of one request, as the provider reports them; all counts exclude each other."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total(self) -> int:
        """All tokens of the request."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


class Reply(Frozen):
    """One whole reply of a model."""

    model: str
    content: tuple[Block, ...]
    stop: Stop
    usage: Usage = Usage()
    note: str = ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(block for block in self.content if isinstance(block, ToolCall))

    @property
    def text(self) -> str:
        """The words, without thinking and calls."""
        return "\n".join(block.text for block in self.content if isinstance(block, Text))
