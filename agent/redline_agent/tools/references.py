"""The `references` tool: where a name is mentioned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.safety.requests import Request
from redline_agent.text import one_line
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.tools.search import Search, SearchInput


class ReferencesInput(Input):
    """A name, and where to look."""

    name: str = Field(min_length=1, max_length=200)
    path: str = "."


class References(Tool[ReferencesInput]):
    """Find mentions of a name."""

    name = "references"
    input = ReferencesInput
    example: ClassVar[Mapping[str, Any]] = {"name": "load_config", "path": "src"}

    def requests(self, arguments: ReferencesInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: ReferencesInput, context: ToolContext) -> Footprint:
        """Reads beneath the path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: ReferencesInput) -> str:
        """Show the name."""
        return f"Looking for uses of {one_line(arguments.name, 60)}"

    async def run(self, arguments: ReferencesInput, context: ToolContext) -> Outcome:
        """Search for the whole word: its definitions are among the lines."""
        last = arguments.name.rsplit(".", 1)[-1]
        pattern = rf"(?<!\w){re.escape(last)}(?!\w)"
        outcome = await Search().run(SearchInput(pattern=pattern, path=arguments.path), context)
        name = one_line(arguments.name, 60)
        summary = outcome.summary.partition(" for ")[0]
        return Outcome(outcome.text, f"{summary} with {name}", label=outcome.label)
