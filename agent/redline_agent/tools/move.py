"""The `move` tool: a file under another name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext


class MoveInput(Input):
    """From where to where."""

    path: str
    to: str


LOOKED_AT_MAX = 10_000


def _left(context: ToolContext, path: str, moved: Sequence[str]) -> int:
    """How many files of a folder on the disk do not go along: nobody may read them, or they are no text."""
    gone = set(moved)
    root = context.overlay.resolver.root
    names = (f"{here}/{name}" for here, _, files in os.walk(root / path) for name in files)
    prefix = len(str(root)) + 1
    return sum(name[prefix:].replace(os.sep, "/") not in gone for name in islice(names, LOOKED_AT_MAX))


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
            left = _left(context, path, beneath)
            stays = f" {plural(left, 'file')} stay in {path}: ignored, of secrets, or no text." if left else ""
            said = f"moved {path} to {to} ({count}{f'; {left} stay' if left else ''})"
            return Outcome(f"Moved {path} to {to} ({count}).{stays}", said)
        context.move(path, to, f"moved {path} to {to}")
        return Outcome(f"Moved {path} to {to}.", f"moved {path} to {to}")
