"""Claude's own text editor, by the vendor's name and arguments, over Redline's `read`, `list`, `edit` and `write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from redline_agent.errors import FileRefused, ToolError
from redline_agent.safety.requests import Request
from redline_agent.text import split_lines
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.tools.edit import Edit, EditInput
from redline_agent.tools.list import List, ListInput
from redline_agent.tools.read import Read, ReadInput
from redline_agent.tools.write import Write, WriteInput
from redline_agent.workspace.textfile import line_end, to_line_end

_NEEDED = {"view": (), "create": ("file_text",), "str_replace": ("old_str",), "insert": ("insert_line", "insert_text")}


class TextEditorInput(Input):
    """The vendor's arguments; which of them are needed depends on the command."""

    command: Literal["view", "create", "str_replace", "insert"]
    path: str
    view_range: list[int] | None = Field(default=None, min_length=2, max_length=2)
    file_text: str | None = Field(default=None, max_length=4_000_000)
    old_str: str | None = None
    new_str: str = ""
    insert_line: int | None = Field(default=None, ge=0)
    insert_text: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> TextEditorInput:
        missing = [name for name in _NEEDED[self.command] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.command} needs {' and '.join(missing)}")
        return self


class TextEditor(Tool[TextEditorInput]):
    """View, create, replace, insert."""

    name = "str_replace_based_edit_tool"
    input = TextEditorInput
    example: ClassVar[Mapping[str, Any]] = {"command": "view", "path": "src/app.py", "view_range": [10, 60]}
    vendor: ClassVar[Mapping[str, Any]] = {"type": "text_editor_20250728"}

    def requests(self, arguments: TextEditorInput, context: ToolContext) -> Sequence[Request]:
        """Read or write the one path, as the tool that stands behind the command does."""
        tool, meant = _meant(arguments, context)
        return tool.requests(meant, context) if tool else [context.access("write", arguments.path)]

    def footprint(self, arguments: TextEditorInput, context: ToolContext) -> Footprint:
        """Reads or writes the one path."""
        tool, meant = _meant(arguments, context)
        return tool.footprint(meant, context) if tool else Footprint(writes=(context.place(arguments.path),))

    def title(self, arguments: TextEditorInput) -> str:
        """Name the file."""
        doing = {"view": "Reading", "create": "Writing", "str_replace": "Editing", "insert": "Editing"}
        return f"{doing[arguments.command]} {arguments.path}"

    async def run(self, arguments: TextEditorInput, context: ToolContext) -> Outcome:
        """Do what the command says."""
        tool, meant = _meant(arguments, context)
        return await tool.run(meant, context) if tool else _inserted(arguments, context)


def _meant(arguments: TextEditorInput, context: ToolContext) -> tuple[Tool[Any] | None, Any]:
    """Return the tool behind a command and its input; none for `insert`."""
    path = arguments.path
    match arguments.command:
        case "view" if context.overlay.resolver.is_dir(context.place(path)):
            return List(), ListInput(path=path)
        case "view":
            start, end = arguments.view_range or (1, -1)
            return Read(), ReadInput(path=path, start=max(1, start), end=end if end > 0 else None)
        case "create":
            return Write(), WriteInput(path=path, content=arguments.file_text or "")
        case "str_replace":
            return Edit(), EditInput(path=path, old=arguments.old_str or "", new=arguments.new_str)
        case _:
            return None, None


def _inserted(arguments: TextEditorInput, context: ToolContext) -> Outcome:
    """Put lines in after a line; 0 is before the first."""
    path, after = context.resolve(arguments.path), arguments.insert_line or 0
    seen = context.overlay.check_fresh(path)
    if seen is None:
        raise FileRefused(f"There is no file {path}.", hint="Use `create` for a new one.")
    lines, end = split_lines(context.masks.masked(seen.file.text)), line_end(seen.file.text)
    if after > len(lines):
        raise ToolError(f"{path} has {len(lines)} lines, so nothing can be inserted after line {after}.")
    new = to_line_end((arguments.insert_text or "").removesuffix("\n") + "\n", end)
    if after and not lines[after - 1].endswith(("\n", "\r")):
        lines[after - 1] += end
    now = context.write(path, "".join([*lines[:after], new, *lines[after:]]), "edited by the agent")
    return Outcome(f"Inserted after line {after} of {path}; now version {now.version}.", f"edited {path}")
