"""The `replace_symbol` tool: the whole of one function, class or other named symbol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import EditRefused, FileRefused
from redline_agent.safety.requests import Request
from redline_agent.semantics.symbols import replaced, symbols, trimmed
from redline_agent.text import one_line
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext

_NAMES_MAX = 60


class ReplaceSymbolInput(Input):
    """Which symbol, and its new code, whole."""

    path: str
    symbol: str = Field(min_length=1, max_length=200)
    code: str = Field(min_length=1)
    reason: str = ""


class ReplaceSymbol(Tool[ReplaceSymbolInput]):
    """Replace a symbol."""

    name = "replace_symbol"
    input = ReplaceSymbolInput
    example: ClassVar[Mapping[str, Any]] = {
        "path": "src/app.py",
        "symbol": "Config.load",
        "code": "def load(self):\n    return {}\n",
    }

    def requests(self, arguments: ReplaceSymbolInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the one path."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def footprint(self, arguments: ReplaceSymbolInput, context: ToolContext) -> Footprint:
        """Writes the one path."""
        return Footprint(writes=(context.place(arguments.path),))

    def title(self, arguments: ReplaceSymbolInput) -> str:
        """Name the symbol."""
        return f"Rewriting {one_line(arguments.symbol, 40)} in {arguments.path}"

    async def run(self, arguments: ReplaceSymbolInput, context: ToolContext) -> Outcome:
        """Replace it where it is defined, once; raises EditRefused when it is not there or there are several."""
        path = context.resolve(arguments.path)
        seen = context.overlay.check_fresh(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.", hint="Use `write` to create it.")
        text = context.masks.masked(seen.file.text)
        found = symbols(text, path)
        matching = [each for each in found if arguments.symbol in (each.name, each.full)]
        exact = [each for each in matching if each.full == arguments.symbol]
        matching = exact or matching
        if len(matching) != 1:
            names = ", ".join(dict.fromkeys(each.full for each in (matching or found)[:_NAMES_MAX]))
            why = "is not defined" if not matching else f"is defined {len(matching)} times"
            raise EditRefused(f"{arguments.symbol} {why} in {path}.", hint=f"Name one of: {names or 'none'}.")
        code = trimmed(arguments.code, path, matching[0].name)
        if not re.search(rf"(?<!\w){re.escape(matching[0].name)}(?!\w)", code):
            hint = "Give all of its code, with the line that names it."
            raise EditRefused(f"The code does not define {matching[0].name}, so it would be gone.", hint=hint)
        new = replaced(text, matching[0], code)
        if new == text:
            hint = "Give the code as it is to become."
            raise EditRefused(f"That is how {matching[0].full} is now: nothing would change.", hint=hint)
        after = context.write(path, new, arguments.reason or "rewritten")
        return Outcome(
            f"Replaced {matching[0].full} in {path}; now version {after.version}.",
            f"rewrote {matching[0].full} in {path}",
        )
