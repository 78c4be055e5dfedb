"""The `outline` tool: the symbols of a file, or of a folder's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.errors import ToolError
from redline_agent.safety.requests import Request
from redline_agent.semantics.symbols import language_of, symbols
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext

_FILES_MAX, _CHARS_MAX = 40, 20_000


class OutlineInput(Input):
    """A file or folder."""

    path: str


class Outline(Tool[OutlineInput]):
    """Show what a file defines."""

    name = "outline"
    input = OutlineInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py"}

    def requests(self, arguments: OutlineInput, context: ToolContext) -> Sequence[Request]:
        """Read the path."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: OutlineInput, context: ToolContext) -> Footprint:
        """Reads the path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: OutlineInput) -> str:
        """Name the path."""
        return f"Outlining {arguments.path}"

    async def run(self, arguments: OutlineInput, context: ToolContext) -> Outcome:
        """Return each symbol with its lines; raises ToolError where nothing can be outlined."""
        folder = context.resolve(arguments.path)
        paths = [path for path in context.readable(folder) if language_of(path)]
        if not paths:
            raise ToolError(f"Nothing in {folder} is in a language that can be outlined.", hint="Use `read`.")
        lines: list[str] = []
        context.named |= dict.fromkeys(paths[:_FILES_MAX])
        for path in paths[:_FILES_MAX]:
            found = symbols(context.see(path).file.text, path)
            lines.append(f"{path}:" if found else f"{path}: no symbols")
            lines += [
                f"  {'  ' * each.depth}{each.line}-{each.end} {each.kind} {context.shown(one_line(each.text))}"
                for each in found
            ]
        if len(paths) > _FILES_MAX:
            lines.append(f"[{len(paths) - _FILES_MAX} more files; name a smaller folder]")
        shown = plural(min(len(paths), _FILES_MAX), "file")
        return Outcome("\n".join(lines), f"outlined {shown}", chars_max=_CHARS_MAX)
