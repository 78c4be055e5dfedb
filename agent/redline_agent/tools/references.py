"""The `references` tool: where a symbol is used, by a language server where one runs, else where its name stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import ToolError
from redline_agent.proof.language import Asked
from redline_agent.safety.requests import Request
from redline_agent.text import one_line, plural, split_lines
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext
from redline_agent.tools.search import Search, SearchInput, matching

PLACES_MAX = 100
BESIDE_MAX = 60
"""How many files that mention the name a server is shown."""


class ReferencesInput(Input):
    """A name, and where to look; the file and line where it stands tell one symbol from others of that name."""

    name: str = Field(min_length=1, max_length=200)
    path: str = "."
    line: int | None = Field(default=None, ge=1)


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
        """Ask a language server about the symbol of a file; else search for the whole word."""
        told = await by_server("references", arguments.name, arguments.path, arguments.line, context)
        if told is not None:
            return told
        last = arguments.name.rsplit(".", 1)[-1]
        outcome = await Search().run(SearchInput(pattern=_word(last), path=arguments.path), context)
        name = one_line(arguments.name, 60)
        summary = outcome.summary.partition(" for ")[0]
        return Outcome(outcome.text, f"{summary} with {name}", label=outcome.label)


def _word(name: str) -> str:
    return rf"(?<!\w){re.escape(name)}(?!\w)"


async def mentioning(name: str, path: str, context: ToolContext) -> Sequence[str]:
    """Return files of a file's language that mention a name: a server may not have looked at them by itself."""
    ends = context.services.language.ends(path) if context.services.language else ()
    if not ends:
        return ()
    alike = [each for each in context.readable(".") if each.endswith(ends)]
    hits, _ = await matching(_word(name.rsplit(".", 1)[-1]), alike, context.overlay.texts_above_disk(), context)
    return list(dict.fromkeys(path for path, _, _ in hits))[:BESIDE_MAX]


async def by_server(what: Asked, name: str, path: str, line: int | None, context: ToolContext) -> Outcome | None:
    """Return what a language server says of a symbol in a file; None when none can, or `path` is no file."""
    language, resolved, overlay = context.services.language, context.resolve(path), context.overlay
    if language is None or overlay.resolver.is_dir(resolved) or not overlay.exists(resolved):
        return None
    beside = await mentioning(name, resolved, context) if what == "references" else ()
    try:
        places = await language.places(what, resolved, name, line, beside)
    except ToolError:
        if line is not None:
            raise
        return None  # the name is not there exactly once, or the server is dead: words can still be searched
    if places is None:
        return None
    lines: list[str] = []
    for where, number in places.lines:
        if context.keeper.allowed(context.access("read", where)) and len(lines) < PLACES_MAX:
            seen = context.overlay.find(where)
            texts = split_lines(seen.file.text) if seen else []
            context.note(where)
            context.named[where] = None
            shown = one_line(texts[number - 1]) if number <= len(texts) else ""
            lines.append(f"{where}:{number}: {context.shown(shown)}")
    if len(places.lines) > len(lines):
        lines.append(f"[{len(places.lines) - len(lines)} more]")
    if places.outside:
        lines.append(f"[{plural(places.outside, 'place')} outside the workspace]")
    short = one_line(name, 60)
    head = f"{plural(len(places.lines), 'place')} of {short}, by {places.server}"
    return Outcome("\n".join(lines) or f"{places.server} knows no place of {short}.", f"found {head}")
