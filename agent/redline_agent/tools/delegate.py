"""The `delegate` tool: a question about the code, answered by an explorer in a context of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext


class DelegateInput(Input):
    """What to find out."""

    task: str = Field(min_length=1, max_length=4000)


class Delegate(Tool[DelegateInput]):
    """Have something found out."""

    name = "delegate"
    input = DelegateInput
    example: ClassVar[Mapping[str, Any]] = {"task": "Where is the cache invalidated, and by whom? Cite each place."}
    streams = True

    def requests(self, arguments: DelegateInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing by itself: the child's own calls each go through the gate."""
        return []

    def footprint(self, arguments: DelegateInput, context: ToolContext) -> Footprint:  # noqa: ARG002
        """Reads anything; changes nothing."""
        return Footprint(reads=(".",))

    def title(self, arguments: DelegateInput) -> str:
        """Show the question."""
        return f"Exploring: {one_line(arguments.task, 80)}"

    async def run(self, arguments: DelegateInput, context: ToolContext) -> Outcome:
        """Return the explorer's report; raises ToolError when it has none."""
        if context.services.delegate is None:
            raise ToolError("There is nobody to delegate to here.", hint="Look yourself.")
        return await context.services.delegate(arguments.task, context.call_id, context.report)
