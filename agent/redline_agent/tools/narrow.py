"""Tools for a small model, narrowed to the code that it is shown: paths and symbols become lists to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redline_agent.errors import RedlineError
from redline_agent.models.base import ToolSpec
from redline_agent.semantics.symbols import symbols
from redline_agent.workspace.overlay import Overlay

EDITING = frozenset({"edit", "replace_symbol"})
_SYMBOLS_MAX = 400


def narrowed(specs: Sequence[ToolSpec], shown: Sequence[str], overlay: Overlay) -> tuple[ToolSpec, ...]:
    """Return the specifications with the files that are shown, and their symbols, as the only ones to edit."""
    names: dict[str, None] = {}
    for path in shown:
        try:
            seen = overlay.find(path)
        except RedlineError:
            continue
        found = symbols(seen.file.text, path) if seen else []
        names |= dict.fromkeys(name for each in found for name in (each.full, each.name))
    return tuple(_one(spec, list(shown), list(names)[:_SYMBOLS_MAX]) for spec in specs)


def _one(spec: ToolSpec, paths: list[str], names: list[str]) -> ToolSpec:
    if spec.name not in EDITING:
        return spec
    properties: dict[str, Any] = dict(spec.schema["properties"])
    properties["path"] = {"type": "string", "enum": paths}
    if "symbol" in properties and names:
        properties["symbol"] = {"type": "string", "enum": names}
    return replace(spec, schema={**spec.schema, "properties": properties})
