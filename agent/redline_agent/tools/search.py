"""The `search` tool: lines that match a regular expression."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from redline_agent.limits import SEARCH_HITS_MAX
from redline_agent.safety.requests import Request
from redline_agent.semantics.helper import ask_worker
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext

_TIMEOUT_S = 10.0
_LINE_CHARS_MAX = 200


class SearchInput(Input):
    """A Python regular expression, and where to look."""

    pattern: str = Field(min_length=1, max_length=2000)
    path: str = "."


class Search(Tool[SearchInput]):
    """Search files."""

    name = "search"
    input = SearchInput

    def requests(self, arguments: SearchInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path."""
        return [context.access("read", arguments.path)]

    def title(self, arguments: SearchInput) -> str:
        """Show the pattern."""
        return f"Searching for {one_line(arguments.pattern, 60)}"

    async def run(self, arguments: SearchInput, context: ToolContext) -> Outcome:
        """Search in the helper process, where a pattern that never ends can be killed."""
        folder = context.resolve(arguments.path)
        paths = context.readable(folder)
        reply = await ask_worker(
            context.overlay,
            "search",
            timeout_s=_TIMEOUT_S,
            paths=paths,
            above={p: t for p, t in context.overlay.texts_above_disk().items() if p in set(paths)},
            pattern=arguments.pattern,
            hits_max=SEARCH_HITS_MAX,
            seconds_max=_TIMEOUT_S / 2,
        )
        hits = [(path, line, _masked(path, line, text, context)) for path, line, text in reply["hits"]]
        lines = [f"{path}:{line}: {text}" for path, line, text in hits]
        if reply["more"]:
            lines.append("[there are more; narrow the pattern or the path]")
        found = plural(len(hits), "line")
        return Outcome(
            "\n".join(lines) or f"Nothing in {folder} matches.",
            f"found {found} for {one_line(arguments.pattern, 40)}",
        )


def _masked(path: str, line: int, text: str, context: ToolContext) -> str:
    """The line as it is in the masked file, where the file has a secret: one line of a key does not look like one."""
    context.note(path)
    seen = context.overlay.find(path)
    whole = seen.file.text if seen else text
    if context.shown(whole) == whole:
        return text
    lines = context.masks.masked(whole).splitlines()
    return context.shown(lines[line - 1].strip()[:_LINE_CHARS_MAX] if line <= len(lines) else text)
