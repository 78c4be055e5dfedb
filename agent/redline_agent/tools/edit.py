"""The `edit` tool: one exact replacement, unique or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.errors import FileRefused
from redline_agent.safety.requests import Request
from redline_agent.text import unescape_hidden
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.workspace.matching import replace


class EditInput(Input):
    """The text to replace, word for word, what to put there, and why."""

    path: str
    old: str
    new: str
    reason: str = ""


class Edit(Tool[EditInput]):
    """Replace text in a file."""

    name = "edit"
    input = EditInput
    example: ClassVar[Mapping[str, Any]] = {
        "path": "src/app.py",
        "old": "x = 1",
        "new": "x = 2",
        "reason": "two is right",
    }

    def requests(self, arguments: EditInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the one path."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def footprint(self, arguments: EditInput, context: ToolContext) -> Footprint:
        """Writes the one path."""
        return Footprint(writes=(context.place(arguments.path),))

    def title(self, arguments: EditInput) -> str:
        """Name the file."""
        return f"Editing {arguments.path}"

    async def run(self, arguments: EditInput, context: ToolContext) -> Outcome:
        """Match against the overlay's text; raises EditRefused, StaleFile.

        In a file that has changed since it was read only an exact quote will do: then its own lines are as they were.
        """
        path = context.resolve(arguments.path)
        seen = context.overlay.find(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.", hint="Use `write` to create it.")
        # matched in the text as the model sees it: a part of a secret is not there to be found
        old, new = (unescape_hidden(text, seen.file.text) for text in (arguments.old, arguments.new))
        edited = replace(context.masks.masked(seen.file.text), old, new)
        if edited.how != "exact":
            context.overlay.check_fresh(path)
        after = context.write(path, edited.text, arguments.reason or "edited by the agent", region=True)
        how = "" if edited.how == "exact" else f" (matched by {edited.how})"
        return Outcome(f"Edited {path}{how}; now version {after.version}.", f"edited {path}{how}")
