"""Tools for a small model, narrowed to the code that it is shown: paths and symbols become lists to choose from.

Where the task names a symbol, or all of the code belongs to symbols, a symbol's whole code is the one way to change it:
quoting text is what a small model does worst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redline_agent.errors import RedlineError
from redline_agent.models.base import ToolSpec
from redline_agent.semantics.symbols import Symbol, symbols
from redline_agent.text import split_lines
from redline_agent.workspace.overlay import Overlay

EDITING = frozenset({"edit", "replace_symbol"})
_SYMBOLS_MAX = 400
_WORD = re.compile(r"\w+(?:\.\w+)*")


def narrowed(specs: Sequence[ToolSpec], shown: Sequence[str], overlay: Overlay, task: str) -> tuple[ToolSpec, ...]:
    """Return the specifications with the files that are shown, and their symbols, as the only ones to edit."""
    names: dict[str, None] = {}
    loose = False
    for path in shown:
        try:
            seen = overlay.find(path)
        except RedlineError:
            continue
        found = symbols(seen.file.text, path) if seen else []
        names |= dict.fromkeys(name for each in found for name in (each.full, each.name))
        loose = loose or not found or (seen is not None and _has_loose_code(seen.file.text, found))
    by_symbol = names and (not loose or not names.keys().isdisjoint(_WORD.findall(task)))
    dropped = "edit" if by_symbol and any(spec.name == "replace_symbol" for spec in specs) else ""
    return tuple(_one(spec, list(shown), list(names)[:_SYMBOLS_MAX]) for spec in specs if spec.name != dropped)


def _has_loose_code(text: str, found: Sequence[Symbol]) -> bool:
    """Whether a line with something in it stands outside every symbol."""
    inside = {number for each in found for number in range(each.line, each.end + 1)}
    return any(line.strip() and number not in inside for number, line in enumerate(split_lines(text), 1))


def _one(spec: ToolSpec, paths: list[str], names: list[str]) -> ToolSpec:
    if spec.name not in EDITING:
        return spec
    properties: dict[str, Any] = dict(spec.schema["properties"])
    properties["path"] = {"type": "string", "enum": paths}
    if "symbol" in properties and names:
        properties["symbol"] = {"type": "string", "enum": names}
    return replace(spec, schema={**spec.schema, "properties": properties})
