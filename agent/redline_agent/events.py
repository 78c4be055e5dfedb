"""What a run yields, from its start to its outcome: a closed union.

Durable events go into the journal before anybody sees them; the others (a delta of text, a wait) are for
the person who watches.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from redline_agent.messages import Frozen, Label, Reply, Text, ToolCall, ToolResult, Usage

StepState = Literal["open", "doing", "done", "dropped"]
OutcomeState = Literal["proposed", "answered", "refused", "failed", "limit", "cancelled", "interrupted"]


class RunStarted(Frozen):
    """The task, as the model is told it; a child has the `parent` run, and a `key` that names it within that.

    A run without a parent has a key when it revises an item of a proposal, and `laid` are the items that it began with.
    """

    type: Literal["run_started"] = "run_started"
    instruction: str
    content: tuple[Text, ...]
    model: str
    prompt_digest: str
    layers: dict[str, str]
    role: str = "executor"
    profile: str = "standard"
    flags: dict[str, str] = Field(default_factory=dict)
    parent: str = ""
    key: str = ""
    laid: tuple[str, ...] = ()


class TurnStarted(Frozen):
    """A request is about to be sent: its digest, and what it was thought to have in tokens, before and after
    calibration.
    """

    type: Literal["turn_started"] = "turn_started"
    turn: int
    request: str = ""
    prompt: str = ""
    model: str = ""
    raw_tokens: int = 0
    expected_tokens: int = 0
    output_tokens_max: int = 0


class Step(Frozen):
    """One step of a plan: what, in which files, and how one sees that it is done."""

    what: str
    files: tuple[str, ...] = ()
    check: str = ""
    state: StepState = "open"


class Planned(Frozen):
    """The plan as it is from now on, and who made it so. A `stepwise` one is given to the executor a step at a time."""

    type: Literal["plan"] = "plan"
    steps: tuple[Step, ...]
    stepwise: bool = False
    by: Literal["planner", "executor", "user"] = "executor"
    label: Label


class Edited(Frozen):
    """What calls did to the overlay, as workspace/kept.py writes it; texts are named by their digests."""

    type: Literal["edited"] = "edited"
    files: tuple[dict[str, Any], ...] = ()
    seen: dict[str, str] = Field(default_factory=dict)


class Compacted(Frozen):
    """The view gets smaller from here on: results that are shown as a line now, and what a summary stands for.

    With a summary, everything before the newest `keep` replies is folded into it.
    """

    type: Literal["compacted"] = "compacted"
    cleared: dict[str, str] = Field(default_factory=dict)
    summary: Text | None = None
    keep: int = 0
    before_tokens: int = 0
    after_tokens: int = 0
    passes: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost_usd: float | None = None


class ModelChanged(Frozen):
    """Another model goes on with the run, and why."""

    type: Literal["model_changed"] = "model_changed"
    model: str
    why: str


class Resumed(Frozen):
    """A run that was cut off goes on."""

    type: Literal["resumed"] = "resumed"


class Copied(Frozen):
    """What follows was copied from another session, or came from a file: then it is tainted."""

    type: Literal["copied"] = "copied"
    source: str
    imported: bool = False


class Failed(Frozen):
    """An error that did not end the run by itself, such as a role that could not do its work."""

    type: Literal["error"] = "error"
    what: str
    message: str


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


class Accepting(Frozen):
    """Accepted hunks or file operations are about to be carried out; a `decided` follows, unless the process dies.

    `token` is in the names of files that are written beside their places.
    """

    type: Literal["accepting"] = "accepting"
    hunks: tuple[str, ...]
    token: str = ""


class HunksDecided(Frozen):
    """The user's decision on hunks or file operations; "pending": they were to be accepted, and were not."""

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
    """The provider could not answer; the request goes out again after a wait. `usage` is what was paid for nothing."""

    type: Literal["retrying"] = "retrying"
    reason: str
    wait_s: float
    attempt: int
    usage: Usage = Usage()
    cost_usd: float | None = None


Durable = (
    RunStarted
    | TurnStarted
    | ReplyReceived
    | GateDecided
    | ToolStarted
    | ToolFinished
    | Said
    | Planned
    | Edited
    | Compacted
    | ModelChanged
    | Resumed
    | Copied
    | Failed
    | Retrying
    | Proposed
    | Accepting
    | HunksDecided
    | RunEnded
)
Passing = TextDelta | Working
Event = Durable | Passing
DURABLE = (
    RunStarted,
    TurnStarted,
    ReplyReceived,
    GateDecided,
    ToolStarted,
    ToolFinished,
    Said,
    Planned,
    Edited,
    Compacted,
    ModelChanged,
    Resumed,
    Copied,
    Failed,
    Retrying,
    Proposed,
    Accepting,
    HunksDecided,
    RunEnded,
)
durable_adapter: TypeAdapter[Durable] = TypeAdapter(Annotated[Durable, Field(discriminator="type")])
