"""What one loop works with: prompt and tools, a model, the overlay, the conversation, and where it is written."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redline_agent.context.estimate import Calibration, raw_fixed, raw_messages
from redline_agent.context.view import Conversation
from redline_agent.errors import ModelUnavailable, StreamDropped
from redline_agent.events import Durable
from redline_agent.limits import CALLS_REMEMBERED, CONTEXT_TOKENS_MAX, Meter
from redline_agent.messages import Label, Usage
from redline_agent.models.base import Model, Request
from redline_agent.prompts.builder import Prompt
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import CLEAN, Taint, join
from redline_agent.safety.secrets import Masks
from redline_agent.tools.base import Services, Tool, ToolContext
from redline_agent.workspace.kept import Watcher
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

Kept = TypeVar("Kept", bound=Durable)
Fit = Callable[[Model], tuple[Prompt, dict[str, Tool[Any]]]]


@dataclass(slots=True)
class Frame:
    """One loop's means. `write` puts events into the journal, all or none; `keep_text` is its store of raw texts.

    `given` is the taint of what the run was given beside its conversation; `fit` makes prompt and tools for a model;
    `begun` are calls that were under way when the run was cut off; `news` is what other runs do to the same text.
    """

    model: Model
    prompt: Prompt
    tools: dict[str, Tool[Any]]
    keeper: Keeper
    overlay: Overlay
    meter: Meter
    conversation: Conversation
    write: Callable[..., None]
    keep_text: Callable[[str, str], None]
    watcher: Watcher
    masks: Masks = field(default_factory=Masks)
    workbench: Workbench | None = None
    services: Services = field(default_factory=Services)
    calibration: Callable[[str], Calibration] = field(default=lambda _model: Calibration())
    given: Taint = CLEAN
    tokens_max: int = CONTEXT_TOKENS_MAX
    fit: Fit | None = None
    fallback: Callable[[], Model | None] = field(default=lambda: None)
    summariser: Callable[[Model], Model] = field(default=lambda model: model)
    next_step: Callable[[str], tuple[str, Durable | None]] = field(default=lambda _summary: ("", None))
    steering: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(maxsize=32))
    calls: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=CALLS_REMEMBERED))
    begun: frozenset[str] = frozenset()
    news: Callable[[], list[str]] = field(default=list)
    answer: str = ""

    def keep(self, event: Kept) -> Kept:
        """Write an event down, and let the conversation have it."""
        self.keep_all(event)
        return event

    def keep_all(self, *events: Durable) -> None:
        """Write events down together."""
        self.write(*events)
        for event in events:
            self.conversation.add(event)

    def taint(self) -> Taint:
        """Return the join of the labels of everything that the model has been shown."""
        return join(self.given, self.conversation.taint)

    def made_by(self, who: str) -> Label:
        """Return the label of a role's words: they are worth what this run has seen."""
        taint = self.taint()
        return Label(source="workspace" if taint.tainted else "model", detail=who, secret=taint.secret, role=True)

    def context(self, call_id: str, tool: str) -> ToolContext:
        """Return what a tool works with, for one call."""
        return ToolContext(
            self.overlay, self.keeper, self.meter.turns, call_id, tool, self.masks, self.workbench, self.services
        )

    def request(self, output_tokens_max: int) -> Request:
        """Return the request that the conversation makes now."""
        messages = tuple(self.conversation.messages(self.model.name))
        return Request(self.prompt.parts, self.prompt.tools, messages, output_tokens_max)

    def raw_tokens(self) -> int:
        """Tokens of the next request, before calibration."""
        messages = raw_messages(self.conversation.messages(self.model.name))
        return round(raw_fixed(self.prompt.parts, self.prompt.tools) + messages)

    def pay(self, usage: Usage, model: Model | None = None) -> float | None:
        """Count what a request used; returns its cost, None when that is not known."""
        model = model or self.model
        cost = model.cost_usd(usage)
        self.meter.add(usage.total, model.bound_usd(usage), known=cost is not None)
        return cost

    def adopt(self, model: Model) -> None:
        """Go on with another model: its prompt and tools are its own."""
        self.model = model
        if self.fit is not None:
            self.prompt, self.tools = self.fit(model)


def request_digest(request: Request, prompt: str, model: str) -> str:
    """Return the digest of everything that a request says, so that one made again can be compared with it."""
    seen = hashlib.sha256(f"{prompt}\n{model}\n{request.output_tokens_max}\n".encode())
    for message in request.messages:
        seen.update(message.model_dump_json().encode())
    return seen.hexdigest()[:24]


def lost(error: ModelUnavailable) -> Usage:
    """Return what a reply that broke off had used by then."""
    paid = error.paid if isinstance(error, StreamDropped) else (0, 0)
    return Usage(input_tokens=paid[0], output_tokens=paid[1])
