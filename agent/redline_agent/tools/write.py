"""The `write` tool: a whole file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.workspace.textfile import line_end, to_line_end


class WriteInput(Input):
    """The file's whole text, and why."""

    path: str
    content: str = Field(max_length=4_000_000)
    reason: str = ""


class Write(Tool[WriteInput]):
    """Create or replace a file."""

    name = "write"
    input = WriteInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/new.py", "content": "x = 1\n", "reason": "holds x"}

    def requests(self, arguments: WriteInput, context: ToolContext) -> Sequence[Request]:
        """Write the one path."""
        return [context.access("write", arguments.path)]

    def footprint(self, arguments: WriteInput, context: ToolContext) -> Footprint:
        """Writes the one path."""
        return Footprint(writes=(context.place(arguments.path),))

    def title(self, arguments: WriteInput) -> str:
        """Name the file."""
        return f"Writing {arguments.path}"

    async def run(self, arguments: WriteInput, context: ToolContext) -> Outcome:
        """Write in the overlay; an existing file keeps its line ends."""
        path = context.resolve(arguments.path)
        before = context.overlay.check_fresh(path)
        content = arguments.content
        if before is not None:
            content = to_line_end(content, line_end(before.file.text))
        after = context.write(path, content, arguments.reason or "written by the agent")
        verb = "Created" if before is None else "Replaced"
        lines = plural(content.count("\n") + 1, "line")
        return Outcome(f"{verb} {path} ({lines}); version {after.version}.", f"{verb.lower()} {path}")
