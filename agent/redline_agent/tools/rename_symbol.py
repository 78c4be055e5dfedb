"""The `rename_symbol` tool: a Python symbol, wherever it is proven to be the same; else what a language server says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from redline_agent.errors import FileRefused, ToolError
from redline_agent.safety.requests import Request
from redline_agent.semantics.helper import ask_worker
from redline_agent.text import plural, split_lines
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.quick_fix import write_all
from redline_agent.tools.references import mentioning

_TIMEOUT_S = 240.0
_SHOWN_MAX = 12


class RenameSymbolInput(Input):
    """Where the symbol is defined, its name (Class.method for a member), the new one; `line` tells twins apart."""

    path: str
    old: str = Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")
    new: str = Field(pattern=r"^[^\W\d]\w*$")
    line: int | None = Field(default=None, ge=1)


class RenameSymbol(Tool[RenameSymbolInput]):
    """Rename a Python symbol."""

    name = "rename_symbol"
    input = RenameSymbolInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src/app.py", "old": "load", "new": "load_config"}

    def requests(self, arguments: RenameSymbolInput, context: ToolContext) -> Sequence[Request]:
        """Read and write the defining file; each other file is asked for before it is written."""
        return [context.access("read", arguments.path), context.access("write", arguments.path)]

    def title(self, arguments: RenameSymbolInput) -> str:
        """Name both names."""
        return f"Renaming {arguments.old} to {arguments.new}"

    async def run(self, arguments: RenameSymbolInput, context: ToolContext) -> Outcome:
        """Rename in the helper process, then write all files or none."""
        path = context.resolve(arguments.path)
        if not path.endswith((".py", ".pyi")):
            return await _by_server(arguments, path, context)
        if context.overlay.find(path) is None:
            raise FileRefused(f"There is no file {path}.", hint="Use `search` to find the definition.")
        paths = context.readable(".")
        above = context.overlay.texts_above_disk()
        reply = await ask_worker(
            context.overlay, "rename", timeout_s=_TIMEOUT_S, paths=paths, above=above, path=path,
            old=arguments.old, new=arguments.new, line=arguments.line,
        )  # fmt: skip
        texts: dict[str, str] = reply["texts"]
        for changed in texts:
            context.check_write(changed)
        reason = f"rename {arguments.old} to {arguments.new}"
        with context.overlay.all_or_nothing():
            for changed, flat in sorted(texts.items()):
                seen = context.overlay.find(changed)
                if seen is None:
                    raise ToolError(f"{changed} vanished during the rename.")
                text = _with_line_ends(seen.file.text, flat, changed)
                context.write(changed, text, reason)
        count = f"{plural(reply['uses'], 'place')} in {plural(len(texts), 'file')}"
        left: int = reply["unproven_count"]
        warning = f" {plural(left, 'place')} left, see the list." if left else ""
        head = f"Renamed {arguments.old} to {arguments.new}: {count}.{warning}"
        return Outcome(head + _listed(reply), head)


async def _by_server(arguments: RenameSymbolInput, path: str, context: ToolContext) -> Outcome:
    """Another language: the project's language server does it, where there is one."""
    language = context.services.language
    if language is None:
        raise ToolError(f"{path} is not a Python file, and there are no language servers here.", hint="Use `edit`.")
    context.see(path)
    beside = await mentioning(arguments.old, path, context)
    texts = await language.rename(path, arguments.old, arguments.line, arguments.new, beside)
    write_all(context, texts, f"rename {arguments.old} to {arguments.new}")
    head = f"Renamed {arguments.old} to {arguments.new} in {plural(len(texts), 'file')}: {', '.join(sorted(texts))}."
    return Outcome(head, head)


def _with_line_ends(before: str, flat: str, path: str) -> str:
    """Give the renamed lines the line ends (and the byte order mark) that the file has."""
    old = split_lines(before)
    new = flat.split("\n")
    if new and not new[-1] and len(new) == len(old) + 1:
        new.pop()
    if len(new) != len(old):
        raise ToolError(f"{path} has unusual line ends, so the rename was not done.", hint="Convert them first.")
    mark = "\ufeff" if before.startswith("\ufeff") else ""
    ends = [line[len(line.rstrip("\r\n")) :] for line in old]
    return mark + "".join(line + end for line, end in zip(new, ends, strict=True))


def _listed(reply: dict[str, Any]) -> str:
    unproven: list[tuple[str, int, str, str]] = reply["unproven"]
    count: int = reply["unproven_count"]
    if not count:
        return "\nNothing else mentions the old name."
    lines = [f"  {path}:{line}: {text}  [{why}]" for path, line, text, why in unproven[:_SHOWN_MAX]]
    more = [f"  [and {count - len(lines)} more]"] if count > len(lines) else []
    return "\n".join(
        [
            f"\nNot changed, because it could not be proven to be the same ({plural(count, 'place')}):",
            *lines,
            *more,
        ]
    )
