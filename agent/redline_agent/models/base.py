"""The Model protocol: a request in, pieces of one reply out. Adapters alone know a provider's types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from redline_agent.messages import Message, Reply, Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do; the loop and the prompt are chosen by it, never by a vendor's name.

    `window` is in tokens. `caching` is "explicit" (breakpoints are set), "prefix" (the vendor finds it) or "none".
    `native_tools` is whether calls come as the vendor's own; else tools are one JSON schema. `judges` is whether it is
    asked to plan, validate and summarise, `mends` whether it is told what the proof of its change found. `edits` is the
    edit dialect. `vendor_tools` names the vendor whose own tool types it can be offered instead of ours.
    """

    window: int = 128_000
    output_tokens_max: int = 16_000
    caching: Literal["explicit", "prefix", "none"] = "none"
    cache_tokens_min: int = 1024
    thinking: bool = False
    parallel_calls: bool = True
    native_tools: bool = True
    profile: Literal["standard", "small"] = "standard"
    edits: Literal["search_replace", "symbol", "whole"] = "search_replace"
    judges: bool = True
    mends: bool = True
    vendor_tools: str = ""


@dataclass(frozen=True, slots=True)
class SystemPart:
    """A piece of the system prompt; the static ones come first and are byte-identical over a session."""

    text: str
    static: bool


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `schema` is JSON Schema of an object.

    `vendor` is what stands for both where it is a type of the vendor's own.
    """

    name: str
    description: str
    schema: dict[str, Any]
    vendor: dict[str, Any] = field(default_factory=dict[str, Any])


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


@runtime_checkable
class Gated(Protocol):
    """A model whose requests wait for somebody's leave."""

    async def admit(self, request: Request) -> float:
        """Wait until a request may be sent; returns the seconds waited, not the run's own. Raises LimitReached."""
        ...


class Model(Protocol):
    """One model. `name` is its full name, `provider:model`, as the journal records it."""

    name: str
    capabilities: Capabilities

    async def ready(self) -> None:
        """Find out what only the model's server can say, such as its window; raises ModelError. Most need nothing."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the reply's pieces; raises ModelError and its kinds."""
        ...

    def cost_usd(self, usage: Usage) -> float | None:
        """What a reply cost in US dollars, None when its price is not known."""
        ...

    def bound_usd(self, usage: Usage) -> float:
        """What it costs at most, for the cost limit."""
        ...

    async def close(self) -> None:
        """Free what the adapter holds."""
        ...
