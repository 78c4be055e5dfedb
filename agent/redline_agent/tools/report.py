"""The `report` tool: how the explorer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext

CITATIONS_MAX = 40


class Citation(Input):
    """Where something is, and what."""

    path: str = Field(max_length=400)
    start: int = Field(ge=1)
    end: int = Field(ge=1)
    what: str = Field(default="", max_length=300)


class ReportInput(Input):
    """The answer and its places."""

    summary: str = Field(min_length=1, max_length=6000)
    citations: list[Citation] = Field(default_factory=list[Citation], max_length=CITATIONS_MAX)


class Report(Tool[ReportInput]):
    """Give the report."""

    name = "report"
    input = ReportInput
    example: ClassVar[Mapping[str, Any]] = {
        "summary": "One place clears it.",
        "citations": [{"path": "a.py", "start": 3, "end": 9, "what": "clear"}],
    }

    def requests(self, arguments: ReportInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def title(self, arguments: ReportInput) -> str:  # noqa: ARG002
        """Say that it is there."""
        return "Reporting"

    async def run(self, arguments: ReportInput, context: ToolContext) -> Outcome:
        """Hand the report over; a citation of what is not there is left out, and that is said."""
        lines = [arguments.summary]
        for each in arguments.citations:
            there = context.overlay.exists(each.path)
            note = "" if there else " [there is no such file]"
            lines.append(f"- {each.path}:{each.start}-{each.end} {each.what}{note}")
        return Outcome("\n".join(lines), f"reported, {plural(len(arguments.citations), 'citation')}", finished=True)
