"""The `verdict` tool: how the validator ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext

FINDINGS_MAX = 10


class Finding(Input):
    """What is wrong, and where."""

    path: str = Field(max_length=400)
    line: int = Field(default=0, ge=0)
    problem: str = Field(min_length=1, max_length=1000)


class VerdictInput(Input):
    """Whether it passes, and what does not."""

    passed: bool
    findings: list[Finding] = Field(default_factory=list[Finding], max_length=FINDINGS_MAX)


class Verdict(Tool[VerdictInput]):
    """Give the verdict."""

    name = "verdict"
    input = VerdictInput
    example: ClassVar[Mapping[str, Any]] = {
        "passed": False,
        "findings": [{"path": "a.py", "line": 3, "problem": "the old name is still used"}],
    }

    def requests(self, arguments: VerdictInput, context: ToolContext) -> Sequence[Request]:  # noqa: ARG002
        """Touch nothing."""
        return []

    def title(self, arguments: VerdictInput) -> str:  # noqa: ARG002
        """Say that it is there."""
        return "Judging the change"

    async def run(self, arguments: VerdictInput, context: ToolContext) -> Outcome:  # noqa: ARG002
        """Hand the verdict over, as JSON."""
        said = "passed" if arguments.passed else plural(len(arguments.findings), "finding")
        return Outcome(arguments.model_dump_json(), f"validator: {said}", finished=True)
