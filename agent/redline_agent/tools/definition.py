"""The `definition` tool: where a name is defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.safety.requests import Request
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.tools.references import by_server

_SHOWN_MAX = 40


class DefinitionInput(Input):
    """A name, such as "load" or "Config.load", and where to look; with a line, what that use of it refers to."""

    name: str = Field(min_length=1, max_length=200)
    path: str = "."
    line: int | None = Field(default=None, ge=1)


class Definition(Tool[DefinitionInput]):
    """Find definitions."""

    name = "definition"
    input = DefinitionInput
    example: ClassVar[Mapping[str, Any]] = {"name": "Config.load"}

    def requests(self, arguments: DefinitionInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: DefinitionInput, context: ToolContext) -> Footprint:
        """Reads beneath the path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: DefinitionInput) -> str:
        """Show the name."""
        return f"Looking for {one_line(arguments.name, 60)}"

    async def run(self, arguments: DefinitionInput, context: ToolContext) -> Outcome:
        """Ask a language server about a use, else the index, which has the run's edits; raises ToolError."""
        if arguments.line is not None:
            told = await by_server("definition", arguments.name, arguments.path, arguments.line, context)
            if told is not None:
                return told
        if context.services.symbols is None:
            raise ToolError("There is no index of this folder.", hint="Use `search`.")
        found = await context.services.symbols.definitions(arguments.name, context.resolve(arguments.path))
        found = [each for each in found if context.keeper.allowed(context.access("read", each["path"]))]
        lines: list[str] = []
        for each in found[:_SHOWN_MAX]:
            context.note(each["path"])
            context.named[each["path"]] = None
            lines.append(
                f"{each['path']}:{each['line']}-{each['end']} {each['kind']} {context.shown(one_line(each['text']))}"
            )
        if len(found) > _SHOWN_MAX:
            lines.append(f"[{len(found) - _SHOWN_MAX} more; name a path]")
        name = one_line(arguments.name, 60)
        text = "\n".join(lines) or f"Nothing here defines {name}."
        return Outcome(text, f"found {plural(len(found), 'definition')} of {name}")
