"""The `delete` tool: a file goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext


class DeleteInput(Input):
    """Which file."""

    path: str


class Delete(Tool[DeleteInput]):
    """Delete a file."""

    name = "delete"
    input = DeleteInput
    example: ClassVar[Mapping[str, Any]] = {"path": "old.py"}

    def requests(self, arguments: DeleteInput, context: ToolContext) -> Sequence[Request]:
        """Delete the one path."""
        return [context.access("delete", arguments.path)]

    def title(self, arguments: DeleteInput) -> str:
        """Name the file."""
        return f"Deleting {arguments.path}"

    async def run(self, arguments: DeleteInput, context: ToolContext) -> Outcome:
        """Delete in the overlay, a folder with all that is listed beneath it."""
        path = context.resolve(arguments.path)
        beneath = context.beneath(path)
        if beneath:
            with context.overlay.all_or_nothing():
                for each in beneath:
                    context.delete(each, f"deleted {path}")
            return Outcome(f"Deleted {path} ({plural(len(beneath), 'file')}).", f"deleted {path}")
        context.delete(path, f"deleted {path}")
        return Outcome(f"Deleted {path}.", f"deleted {path}")
