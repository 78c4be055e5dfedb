"""The `plan` tool: how the planner ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext

STEPS_MAX = 20


class PlannedStep(Input):
    """What is done, in which files, and how one sees that it is done."""

    what: str = Field(min_length=1, max_length=600)
    files: list[str] = Field(default_factory=list[str], max_length=30)
    check: str = Field(default="", max_length=400)


class PlanInput(Input):
    """The steps, in order."""

    steps: list[PlannedStep] = Field(min_length=1, max_length=STEPS_MAX)


class Plan(Tool[PlanInput]):
    """Give the plan."""

    name = "plan"
    input = PlanInput
    example: ClassVar[Mapping[str, Any]] = {
        "steps": [{"what": "add the option to the parser", "files": ["cli.py"], "check": "--help shows it"}]
    }

    def requests(self, arguments: PlanInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def title(self, arguments: PlanInput) -> str:  # noqa: ARG002
        """Say that it is there."""
        return "Planning"

    async def run(self, arguments: PlanInput, context: ToolContext) -> Outcome:  # noqa: ARG002
        """Hand the plan over, as JSON."""
        return Outcome(arguments.model_dump_json(), f"planned {plural(len(arguments.steps), 'step')}", finished=True)
