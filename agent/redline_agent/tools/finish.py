"""The `finish` tool: the run is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext


class FinishInput(Input):
    """What was done, or the answer to a question."""

    summary: str


class Finish(Tool[FinishInput]):
    """End the run."""

    name = "finish"
    input = FinishInput
    example: ClassVar[Mapping[str, Any]] = {"summary": "Renamed load to load_config in 3 files."}

    def requests(self, arguments: FinishInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def title(self, arguments: FinishInput) -> str:  # noqa: ARG002
        """Say that it ends."""
        return "Finishing"

    async def run(self, arguments: FinishInput, context: ToolContext) -> Outcome:  # noqa: ARG002
        """Hand the summary to the user."""
        return Outcome(arguments.summary, one_line(arguments.summary), finished=True)
