"""What a tool is: a name, a validated input, the accesses that it needs, and the work itself.

A tool touches files through its context alone: the overlay for texts, `check` for the gate. Its description for the
model is the `.md` file beside its module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from redline_agent.errors import PathRefused
from redline_agent.safety.gate import Access, Decision, Effect, Rules, decide
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay


class Input(BaseModel):
    """Base of tool inputs: unknown arguments are refused."""

    model_config = ConfigDict(extra="forbid")


In = TypeVar("In", bound=Input)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tool's result: the text for the model, one line for a person; `finished` ends the run."""

    text: str
    summary: str
    finished: bool = False


@dataclass(slots=True)
class ToolContext:
    """What a tool works with, for one call."""

    overlay: Overlay
    rules: Rules
    turn: int
    call_id: str
    tool: str

    def origin(self, reason: str) -> Origin:
        """Return the origin of an edit that this call makes, with its reason."""
        return Origin(self.turn, self.call_id, self.tool, reason)

    def resolve(self, name: str) -> str:
        """Return the canonical path of a name; raises PathRefused."""
        return self.overlay.resolver.resolve(name)

    def allowed(self, effect: Effect, path: str) -> bool:
        """Whether the gate lets this call do that."""
        return decide(Access(effect, path), self.rules).verdict == "allow"

    def check(self, effect: Effect, path: str) -> None:
        """Raise PathRefused with the gate's reason when it does not."""
        decision = decide(Access(effect, path), self.rules)
        if decision.verdict != "allow":
            raise PathRefused(blocked(Access(effect, path), decision))

    def readable(self, folder: str) -> list[str]:
        """Files beneath a folder that may be read."""
        return [path for path in self.overlay.walk(folder) if self.allowed("read", path)]


def blocked(access: Access, decision: Decision) -> str:
    """Return what the model and the user are told of a blocked access."""
    return f"Blocked by the rule {decision.rule}: {access.effect} {access.path}: {decision.reason}."


class Tool(ABC, Generic[In]):
    """Base of tools. Subclasses set `name` and `input`, and write `accesses`, `title` and `run`."""

    name: ClassVar[str]
    input: type[In]

    @abstractmethod
    def accesses(self, arguments: In, context: ToolContext) -> Sequence[Access]:
        """Return the side effects that the call is for, on resolved paths; the gate decides on them first."""

    @abstractmethod
    def title(self, arguments: In) -> str:
        """Return one line for the progress display."""

    @abstractmethod
    async def run(self, arguments: In, context: ToolContext) -> Outcome:
        """Do the work; raises RedlineError for what the model should be told."""

    def description(self) -> str:
        """Return the text of the `.md` beside the module."""
        return files("redline_agent.tools").joinpath(f"{self.name}.md").read_text("utf-8").strip()

    def schema(self) -> dict[str, Any]:
        """Return the input's JSON Schema, without what only costs tokens."""
        schema = self.input.model_json_schema()
        return {
            "type": "object",
            "properties": {name: _slim(prop) for name, prop in schema.get("properties", {}).items()},
            "required": schema.get("required", []),
            "additionalProperties": False,
        }


def _slim(prop: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in prop.items() if key not in ("title", "default")}
    options = kept.pop("anyOf", None)
    if options:
        kept |= next(option for option in options if option.get("type") != "null")
    return kept
