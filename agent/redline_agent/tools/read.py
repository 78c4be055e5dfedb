"""The `read` tool: lines of a file, as the overlay has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.limits import READ_CHARS_MAX
from redline_agent.safety.requests import Access, Request
from redline_agent.text import plural, split_lines
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.workspace.overlay import Seen
from redline_agent.workspace.textfile import decode, digest


class ReadInput(Input):
    """Which file, and which lines (from 1, both ends included)."""

    path: str
    start: int | None = Field(default=None, ge=1)
    end: int | None = Field(default=None, ge=1)


class Read(Tool[ReadInput]):
    """Show a file."""

    name = "read"
    input = ReadInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "start": 10, "end": 60}

    def requests(self, arguments: ReadInput, context: ToolContext) -> Sequence[Request]:
        """Read the one path."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: ReadInput, context: ToolContext) -> Footprint:
        """Reads the one path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: ReadInput) -> str:
        """Name the file."""
        return f"Reading {arguments.path}"

    async def run(self, arguments: ReadInput, context: ToolContext) -> Outcome:
        """Return numbered lines; a range outside the file is told, not an error."""
        request = context.access("read", arguments.path)
        if arguments.start and request.place == "workspace" and context.overlay.is_large(request.path):
            return _part(arguments, request, context)
        seen = context.see(request.path) if request.place == "workspace" else _outside(request, context)
        lines = split_lines(context.shown(seen.file.text))
        start, end = arguments.start or 1, min(arguments.end or len(lines), len(lines))
        shown: list[str] = []
        size = 0
        for number in range(start, end + 1):
            line = f"{number}\t" + lines[number - 1].rstrip("\r\n")
            size += len(line) + 1
            if size > READ_CHARS_MAX:
                if not shown:  # one line, longer than all that is shown at once
                    shown.append(f"{line[:READ_CHARS_MAX]} [the rest of this line is not shown: it has {len(line):,}"
                                 f" characters; use `search` for what it holds]")  # fmt: skip
                    continue
                shown.append(f"[cut at line {number - 1}; read on from line {number}]")
                break
            shown.append(line)
        source = {"buffer": ", with unsaved changes", "overlay": ", with this run's edits", "disk": ""}[seen.source]
        head = f"{seen.path}: {plural(len(lines), 'line')}, version {seen.version}{source}"
        if start > len(lines) and lines:
            shown.append(f"[line {start} is after the end of the file]")
        return Outcome("\n".join([head, *shown]), f"read {seen.path} ({plural(max(0, end - start + 1), 'line')})")


def _part(arguments: ReadInput, request: Access, context: ToolContext) -> Outcome:
    """Lines of a file that is too large to be worked on whole: shown, but not to be edited."""
    start, end = arguments.start or 1, arguments.end or (arguments.start or 1) + 400
    context.keeper.permit(request)
    context.note(request.path)
    lines = context.overlay.resolver.read_lines(request.path, start, end, READ_CHARS_MAX)
    shown = [f"{number}\t{context.shown(line.rstrip())}" for number, line in enumerate(lines, start)]
    head = (
        f"{request.path}: lines {start} to {start + len(lines) - 1} of a large file, which can be read by range alone"
    )
    return Outcome("\n".join([head, *shown]), f"read {request.path} ({plural(len(lines), 'line')})")


def _outside(request: Access, context: ToolContext) -> Seen:
    """A file outside the workspace folder: read once, for the permit that was obtained; it cannot be edited."""
    data = context.overlay.resolver.read_outside(request, context.permitted(request))
    file = decode(data, request.path)
    context.note(request.path)
    return Seen(request.path, file, digest(file.text), "disk")
