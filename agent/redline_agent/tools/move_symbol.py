"""The `move_symbol` tool: a Python function, class or variable goes to another module, imports with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.rope_files import refactored


class MoveSymbolInput(Input):
    """Where the symbol is defined, its name, and the existing file that it goes to."""

    path: str
    name: str = Field(pattern=r"^[^\W\d]\w*$")
    to: str


class MoveSymbol(Tool[MoveSymbolInput]):
    """A Python function, class or variable goes to another module, imports with it."""

    name = "move_symbol"
    input = MoveSymbolInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "name": "helper", "to": "src/helpers.py"}

    def requests(self, arguments: MoveSymbolInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the file; each other file is asked for before it is written."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def title(self, arguments: MoveSymbolInput) -> str:
        """Name what is done."""
        return f"Moving {one_line(arguments.name, 40)} to {arguments.to}"

    async def run(self, arguments: MoveSymbolInput, context: ToolContext) -> Outcome:
        """Do it in the helper process, then write all files or none."""
        path, to = context.resolve(arguments.path), context.resolve(arguments.to)
        reason = f"move {arguments.name} from {path} to {to}"
        return await refactored(context, path, "move", reason, name=arguments.name, to=to)
