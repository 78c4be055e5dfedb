"""What a run yields, from its start to its outcome: a closed union.

Durable events go into the journal before anybody sees them; the others (a delta of text, a wait) are for
the person who watches.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from redline_agent.messages import Frozen, Reply, Text, ToolCall, ToolResult

OutcomeState = Literal["proposed", "answered", "refused", "failed", "limit", "cancelled", "interrupted"]


class RunStarted(Frozen):
    """The task, as the model is told it."""

    type: Literal["run_started"] = "run_started"
    instruction: str
    content: tuple[Text, ...]
    model: str
    prompt_digest: str
    layers: dict[str, str]


class TurnStarted(Frozen):
    """A request is about to be sent."""

    type: Literal["turn_started"] = "turn_started"
    turn: int


class ReplyReceived(Frozen):
    """A whole reply, before anything that it asks for is done."""

    type: Literal["reply"] = "reply"
    turn: int
    reply: Reply
    cost_usd: float | None = None


class GateDecided(Frozen):
    """What the gate, or the person, said of one request of a call (`what`, bound to `digest`), and what was read
    before.
    """

    type: Literal["gate"] = "gate"
    call_id: str
    verdict: Literal["block", "allow"]
    rule: str
    reason: str
    what: str = ""
    digest: str = ""
    asked: bool = False
    seen: tuple[str, ...] = ()


class ToolStarted(Frozen):
    """A call is being carried out."""

    type: Literal["tool_started"] = "tool_started"
    call: ToolCall
    title: str


class ToolFinished(Frozen):
    """A call's result; `summary` is one line for a person."""

    type: Literal["tool_result"] = "tool_result"
    result: ToolResult
    summary: str


class Said(Frozen):
    """A note to the model in mid-run: the user's steering, or Redline's own."""

    type: Literal["said"] = "said"
    text: Text


class Proposed(Frozen):
    """The run's proposal, whole, as JSON (workspace/stored.py gives its shape).

    It holds the user's texts as they are, so the journal keeps it in a store of its own, and here its digest alone.
    """

    type: Literal["proposed"] = "proposed"
    proposal: dict[str, Any] = Field(default_factory=dict)
    digest: str = ""


class HunksDecided(Frozen):
    """The user's decision on hunks or file operations."""

    type: Literal["decided"] = "decided"
    state: str
    hunks: tuple[str, ...]


class RunEnded(Frozen):
    """The outcome; `answer` is the model's text or the error, for the user."""

    type: Literal["outcome"] = "outcome"
    state: OutcomeState
    answer: str = ""
    limit: str = ""
    turns: int = 0
    tokens: int = 0
    cost_usd: float | None = None


class TextDelta(Frozen):
    """A piece of the model's words as they arrive."""

    type: Literal["text_delta"] = "text_delta"
    text: str


class Working(Frozen):
    """What is going on, for a progress line; never in the journal."""

    type: Literal["working"] = "working"
    text: str


class Retrying(Frozen):
    """The provider could not answer; the request goes out again after a wait."""

    type: Literal["retrying"] = "retrying"
    reason: str
    wait_s: float
    attempt: int


Durable = (
    RunStarted
    | TurnStarted
    | ReplyReceived
    | GateDecided
    | ToolStarted
    | ToolFinished
    | Said
    | Proposed
    | HunksDecided
    | RunEnded
)
Passing = TextDelta | Working | Retrying
Event = Durable | Passing
DURABLE = (
    RunStarted,
    TurnStarted,
    ReplyReceived,
    GateDecided,
    ToolStarted,
    ToolFinished,
    Said,
    Proposed,
    HunksDecided,
    RunEnded,
)
durable_adapter: TypeAdapter[Durable] = TypeAdapter(Annotated[Durable, Field(discriminator="type")])
