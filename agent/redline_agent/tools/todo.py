"""The `todo` tool: the plan that the user sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.events import Planned, Step, StepState
from redline_agent.messages import REDLINE, Label
from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import NOTHING, Footprint, Input, Outcome, Tool, ToolContext

STEPS_MAX = 30


class TodoStep(Input):
    """One step and its state."""

    what: str = Field(min_length=1, max_length=400)
    state: StepState = "open"


class TodoInput(Input):
    """The whole plan as it is now."""

    steps: list[TodoStep] = Field(min_length=1, max_length=STEPS_MAX)


class Todo(Tool[TodoInput]):
    """Write the plan down."""

    name = "todo"
    input = TodoInput
    example: ClassVar[Mapping[str, Any]] = {
        "steps": [{"what": "add the option", "state": "done"}, {"what": "test it", "state": "doing"}]
    }

    def requests(self, arguments: TodoInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def footprint(self, arguments: TodoInput, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Touches no file."""
        return NOTHING

    def title(self, arguments: TodoInput) -> str:
        """Say what is being done."""
        doing = next((step.what for step in arguments.steps if step.state == "doing"), "")
        return f"Plan: {one_line(doing, 80)}" if doing else "Writing the plan"

    async def run(self, arguments: TodoInput, context: ToolContext) -> Outcome:
        """Replace the plan; steps of the same words keep their files and checks."""
        plan = context.services.plan() or Planned(steps=(), label=REDLINE)
        before = {step.what: step for step in plan.steps}
        steps = tuple(
            before.get(each.what, Step(what=context.masks.masked(each.what))).model_copy(update={"state": each.state})
            for each in arguments.steps
        )
        label = Label(source="workspace", detail="the plan") if context.keeper.taint().tainted else REDLINE
        context.events.append(Planned(steps=steps, stepwise=plan.stepwise, label=label))
        done = sum(step.state == "done" for step in steps)
        return Outcome(
            f"The plan has {len(steps)} steps, {done} done.", f"plan: {done} of {len(steps)} done", label=label
        )
