"""The `extract` tool: lines of Python become a function, or an expression a variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.rope_files import refactored


class ExtractInput(Input):
    """Which lines (from 1, both included), the new name, and the expression when it is to be a variable."""

    path: str
    start: int = Field(ge=1)
    end: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=200)
    expression: str = ""


class Extract(Tool[ExtractInput]):
    """Lines of Python become a function, or an expression a variable."""

    name = "extract"
    input = ExtractInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "start": 10, "end": 14, "name": "load"}

    def requests(self, arguments: ExtractInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the file; each other file is asked for before it is written."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def title(self, arguments: ExtractInput) -> str:
        """Name what is done."""
        return f"Extracting {one_line(arguments.name, 40)} in {arguments.path}"

    async def run(self, arguments: ExtractInput, context: ToolContext) -> Outcome:
        """Do it in the helper process, then write all files or none."""
        path = context.resolve(arguments.path)
        reason = f"extract {arguments.name} from {path}"
        return await refactored(
            context,
            path,
            "extract",
            reason,
            start=arguments.start,
            end=arguments.end,
            name=arguments.name,
            expression=arguments.expression,
        )
