"""The `quick_fix` tool: what the project's language servers offer for a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.safety.requests import Request
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext


class QuickFixInput(Input):
    """Which line, or lines up to `end`, and the title of the fix to make; without one they are listed."""

    path: str
    line: int = Field(ge=1)
    end: int | None = None
    title: str = ""


class QuickFix(Tool[QuickFixInput]):
    """List or make a fix."""

    name = "quick_fix"
    input = QuickFixInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "line": 10}

    def requests(self, arguments: QuickFixInput, context: ToolContext) -> Sequence[Request]:
        """Read the file, and write it for a fix; each other file is asked for before it is written."""
        read = context.access("read", arguments.path)
        return [read, context.access("write", arguments.path)] if arguments.title else [read]

    def title(self, arguments: QuickFixInput) -> str:
        """Name the fix."""
        return f"Fixing: {one_line(arguments.title, 60)}" if arguments.title else f"Fixes for {arguments.path}"

    async def run(self, arguments: QuickFixInput, context: ToolContext) -> Outcome:
        """Ask the servers; make the one fix of that title, in all files or none."""
        language = context.services.language
        if language is None:
            raise ToolError("There are no language servers here.")
        path = context.resolve(arguments.path)
        context.see(path)
        fixes = await language.fixes(path, arguments.line, arguments.end)
        listed = "\n".join(f"- {each.title} ({each.server})" for each in fixes) or "none"
        if not arguments.title:
            return Outcome(
                f"Fixes for line {arguments.line} of {path}:\n{listed}", f"{plural(len(fixes), 'fix')} listed"
            )
        wanted = [each for each in fixes if each.title == arguments.title]
        if len(wanted) != 1:
            raise ToolError(f"There are {len(wanted)} fixes of that title. Fixes here:\n{listed}")
        write_all(context, wanted[0].texts, one_line(arguments.title, 200))
        changed = ", ".join(sorted(wanted[0].texts))
        return Outcome(f"Done: {arguments.title}; changed {changed}.", f"fixed: {one_line(arguments.title, 60)}")


def write_all(context: ToolContext, texts: Mapping[str, str], reason: str) -> None:
    """Write texts in the overlay, all or none."""
    for changed in texts:
        context.check_write(changed)
    with context.overlay.all_or_nothing():
        for changed, text in sorted(texts.items()):
            context.write(changed, text, reason)
