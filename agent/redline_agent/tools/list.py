"""The `list` tool: what is in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.errors import FileRefused
from redline_agent.safety.requests import Request
from redline_agent.text import plural
from redline_agent.tools.base import Footprint, Input, Outcome, Tool, ToolContext

_ENTRIES_MAX = 500


class ListInput(Input):
    """Which folder; "." is the workspace folder."""

    path: str = "."


class List(Tool[ListInput]):
    """List a folder."""

    name = "list"
    input = ListInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src"}

    def requests(self, arguments: ListInput, context: ToolContext) -> Sequence[Request]:
        """Read the folder."""
        return [context.access("read", arguments.path)]

    def footprint(self, arguments: ListInput, context: ToolContext) -> Footprint:
        """Reads the one path."""
        return Footprint(reads=(context.place(arguments.path),))

    def title(self, arguments: ListInput) -> str:
        """Name the folder."""
        return f"Listing {arguments.path}"

    async def run(self, arguments: ListInput, context: ToolContext) -> Outcome:
        """Return files by name, and folders with how many files are beneath them."""
        folder = context.resolve(arguments.path)
        prefix = "" if folder == "." else folder + "/"
        paths = [path[len(prefix) :] for path in context.readable(folder) if path.startswith(prefix)]
        if not paths and not context.overlay.resolver.is_dir(folder):
            raise FileRefused(f"There is no folder {folder}.", hint='Use `list` with "." to see what there is.')
        folders = Counter(path.split("/", 1)[0] + "/" for path in paths if "/" in path)
        lines = [f"{name} ({plural(count, 'file')})" for name, count in sorted(folders.items())]
        lines += sorted(path for path in paths if "/" not in path)
        more = [f"[{len(lines) - _ENTRIES_MAX} more]"] if len(lines) > _ENTRIES_MAX else []
        return Outcome(
            "\n".join(lines[:_ENTRIES_MAX] + more) or "(empty)",
            f"listed {folder} ({plural(len(lines), 'entry')})".replace("entrys", "entries"),
        )
