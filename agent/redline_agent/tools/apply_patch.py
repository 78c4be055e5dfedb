"""OpenAI's own patch tool, by the vendor's arguments, over the same overlay and gate: create, update, delete a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from redline_agent.errors import FileRefused
from redline_agent.safety.requests import Request
from redline_agent.text import unescape_hidden
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.tools.delete import Delete, DeleteInput
from redline_agent.tools.write import Write, WriteInput
from redline_agent.workspace.patches import created, patched


class ApplyPatchInput(Input):
    """The vendor's operation; `diff` has "@@ anchor" lines, then lines that begin with " ", "-" or "+" (V4A)."""

    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str = Field(default="", max_length=4_000_000)

    @model_validator(mode="after")
    def _complete(self) -> ApplyPatchInput:
        if self.type == "update_file" and not self.diff.strip():
            raise ValueError("update_file needs a diff")
        return self


class ApplyPatch(Tool[ApplyPatchInput]):
    """Patch a file."""

    name = "apply_patch"
    input = ApplyPatchInput
    example: ClassVar[Mapping[str, Any]] = {
        "type": "update_file",
        "path": "src/app.py",
        "diff": "@@ def total():\n-    return 1\n+    return 2\n",
    }
    vendor: ClassVar[Mapping[str, Any]] = {"type": "apply_patch"}

    def requests(self, arguments: ApplyPatchInput, context: ToolContext) -> Sequence[Request]:
        """Write or delete the one path."""
        return [context.access("delete" if arguments.type == "delete_file" else "write", arguments.path)]

    def footprint(self, arguments: ApplyPatchInput, context: ToolContext) -> Footprint:
        """Writes the one path."""
        return Footprint(writes=(context.place(arguments.path),))

    def title(self, arguments: ApplyPatchInput) -> str:
        """Name the file."""
        doing = {"create_file": "Writing", "update_file": "Editing", "delete_file": "Deleting"}
        return f"{doing[arguments.type]} {arguments.path}"

    async def run(self, arguments: ApplyPatchInput, context: ToolContext) -> Outcome:
        """Patch the overlay's text; raises EditRefused where a place is not the only one."""
        if arguments.type == "delete_file":
            return await Delete().run(DeleteInput(path=arguments.path), context)
        if arguments.type == "create_file":
            return await Write().run(WriteInput(path=arguments.path, content=created(arguments.diff)), context)
        path = context.resolve(arguments.path)
        seen = context.overlay.check_fresh(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.", hint="Use create_file for a new one.")
        diff = unescape_hidden(arguments.diff, seen.file.text)
        after = context.write(path, patched(context.masks.masked(seen.file.text), diff), "edited by the agent")
        return Outcome(f"Edited {path}; now version {after.version}.", f"edited {path}")
