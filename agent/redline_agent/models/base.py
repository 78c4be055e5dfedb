"""The Model protocol: a request in, pieces of one reply out. Adapters alone know a provider's types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from redline_agent.messages import Message, Reply, Usage


@dataclass(frozen=True, slots=True)
class SystemPart:
    """A piece of the system prompt; the static ones come first and are byte-identical over a session."""

    text: str
    static: bool


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `schema` is JSON Schema of an object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that a model is sent."""

    system: tuple[SystemPart, ...]
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Words as they arrive."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """The whole reply; always the last piece."""

    reply: Reply


Piece = TextPiece | ReplyDone


class Model(Protocol):
    """One model. `name` is its full name, `provider:model`, as the journal records it."""

    name: str

    def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the reply's pieces; raises ModelError and its kinds."""
        ...

    def cost_usd(self, usage: Usage) -> float | None:
        """What a reply cost, None when it costs nothing to know."""
        ...

    async def close(self) -> None:
        """Free what the adapter holds."""
        ...
