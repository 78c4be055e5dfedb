"""The `move` tool: a file under another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.workspace.walking import others


class MoveInput(Input):
    """From where to where."""

    path: str
    to: str


class Move(Tool[MoveInput]):
    """Rename or move a file."""

    name = "move"
    input = MoveInput
    example: ClassVar[Mapping[str, Any]] = {"path": "old.py", "to": "new.py"}

    def requests(self, arguments: MoveInput, context: ToolContext) -> Sequence[Request]:
        """Move the one path, write the other."""
        return [
            context.access("read", arguments.path),
            context.access("move", arguments.path),
            context.access("write", arguments.to),
        ]

    def title(self, arguments: MoveInput) -> str:
        """Name both."""
        return f"Moving {arguments.path} to {arguments.to}"

    async def run(self, arguments: MoveInput, context: ToolContext) -> Outcome:
        """Move in the overlay, a folder with all that is listed beneath it; raises FileRefused when a name is taken."""
        path, to = context.resolve(arguments.path), context.resolve(arguments.to)
        beneath = context.beneath(path)
        if beneath:
            with context.overlay.all_or_nothing():
                for each in beneath:
                    context.move(each, to + each[len(path) :], f"moved {path} to {to}")
            count = plural(len(beneath), "file")
            left = others(context.overlay.resolver, path, beneath)
            stays = f" {plural(left, 'file')} stay in {path}: ignored, of secrets, or no text." if left else ""
            said = f"moved {path} to {to} ({count}{f'; {left} stay' if left else ''})"
            return Outcome(f"Moved {path} to {to} ({count}).{stays}", said)
        context.move(path, to, f"moved {path} to {to}")
        return Outcome(f"Moved {path} to {to}.", f"moved {path} to {to}")
