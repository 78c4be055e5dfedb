"""The `search` tool: lines that match a regular expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.limits import SEARCH_HITS_MAX
from redline_agent.safety.requests import Request
from redline_agent.semantics.helper import ask_worker
from redline_agent.text import one_line, plural
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext

_TIMEOUT_S = 10.0


class SearchInput(Input):
    """A Python regular expression, and where to look."""

    pattern: str = Field(min_length=1, max_length=2000)
    path: str = "."


class Search(Tool[SearchInput]):
    """Search files."""

    name = "search"
    input = SearchInput
    example: ClassVar[Mapping[str, Any]] = {"pattern": "def parse_", "path": "src"}

    def requests(self, arguments: SearchInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: SearchInput, context: ToolContext) -> Footprint:
        """Reads the one path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: SearchInput) -> str:
        """Show the pattern."""
        return f"Searching for {one_line(arguments.pattern, 60)}"

    async def run(self, arguments: SearchInput, context: ToolContext) -> Outcome:
        """Search, and show what matches of what the model may see."""
        folder = context.resolve(arguments.path)
        paths = context.readable(folder)
        above = {p: t for p, t in context.overlay.texts_above_disk().items() if p in set(paths)}
        found, more = await matching(arguments.pattern, paths, above, context)
        with_secrets = {path: text for path in {hit[0] for hit in found} if (text := _masked_text(path, context))}
        if with_secrets:
            # looked through again as the model sees them: else matching or not would tell a secret by its letters
            again, _ = await matching(arguments.pattern, sorted(with_secrets), {**with_secrets}, context)
            found = sorted([hit for hit in found if hit[0] not in with_secrets] + again)
        lines = [f"{path}:{line}: {context.shown(text)}" for path, line, text in found]
        context.named |= dict.fromkeys(hit[0] for hit in found)
        if more:
            lines.append("[there are more; narrow the pattern or the path]")
        count = plural(len(found), "line")
        return Outcome(
            "\n".join(lines) or f"Nothing in {folder} matches.",
            f"found {count} for {one_line(arguments.pattern, 40)}",
        )


async def matching(
    pattern: str, paths: list[str], above: dict[str, str | None], context: ToolContext
) -> tuple[list[tuple[str, int, str]], bool]:
    """Search in the helper process, where a pattern that never ends can be killed."""
    reply = await ask_worker(
        context.overlay,
        "search",
        timeout_s=_TIMEOUT_S,
        paths=paths,
        above=above,
        pattern=pattern,
        hits_max=SEARCH_HITS_MAX,
        seconds_max=_TIMEOUT_S / 2,
    )
    return [(path, line, text) for path, line, text in reply["hits"]], bool(reply["more"])


def _masked_text(path: str, context: ToolContext) -> str:
    """The file's text with its secrets masked, "" when it has none."""
    context.note(path)
    seen = context.overlay.find(path)
    masked = context.masks.masked(seen.file.text) if seen else ""
    return masked if seen and masked != seen.file.text else ""
