"""The `inline` tool: a Python function or variable goes, its code where it was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.rope_files import refactored


class InlineInput(Input):
    """Where the symbol is defined, its name, and its line where several have that name."""

    path: str
    name: str = Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")
    line: int | None = Field(default=None, ge=1)


class Inline(Tool[InlineInput]):
    """A Python function or variable goes, its code where it was used."""

    name = "inline"
    input = InlineInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "name": "helper"}

    def requests(self, arguments: InlineInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the file; each other file is asked for before it is written."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def title(self, arguments: InlineInput) -> str:
        """Name what is done."""
        return f"Inlining {one_line(arguments.name, 40)}"

    async def run(self, arguments: InlineInput, context: ToolContext) -> Outcome:
        """Do it in the helper process, then write all files or none."""
        path = context.resolve(arguments.path)
        reason = f"inline {arguments.name}"
        return await refactored(context, path, "inline", reason, name=arguments.name, line=arguments.line)
