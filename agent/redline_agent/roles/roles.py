"""Roles: the same loop with another prompt, other tools, another model and other limits. Each is a data file here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from redline_agent.errors import UsageError
from redline_agent.models.base import Capabilities

EDITS: dict[str, tuple[str, ...]] = {
    "search_replace": ("edit", "write"),
    "symbol": ("replace_symbol", "edit"),
    "whole": ("write",),
}
"""The tools of each edit dialect: what stands in a role for "@edits"."""
VENDOR_TOOLS: dict[str, dict[str, str]] = {
    "anthropic": {
        **dict.fromkeys(("read", "list", "edit", "write"), "str_replace_based_edit_tool"),
        "run": "bash",
    },
    "openai": {**dict.fromkeys(("edit", "write", "delete"), "apply_patch"), "run": "shell"},
}
"""With the flag `vendor_tools = "on"`: what a vendor's own types stand for."""
VENDOR_FLAG = "vendor_tools"
NAMES = ("executor", "planner", "validator", "explorer", "summariser")
_LONG_WORDS, _ITEMS, _FILES = 60, 3, 3
_ITEM = re.compile(r"^\s*(?:[-*]|\d+[.)])\s+\S", re.MULTILINE)
_FILE = re.compile(r"[\w./-]+\.\w{1,5}\b")


@dataclass(frozen=True, slots=True)
class Role:
    """One role, as its file says. `tier` is "main" or "light": which of the user's models it is for."""

    name: str
    layers: tuple[str, ...]
    tools: tuple[str, ...]
    ends_with: str
    tier: Literal["main", "light"]
    small_tools: tuple[str, ...] = ()
    turns_max: int = 0

    def tool_names(self, capabilities: Capabilities, flags: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return the role's tools for a model: its edit dialect's, fewer for a small one, the vendor's by a flag."""
        names = self.small_tools if capabilities.profile == "small" and self.small_tools else self.tools
        wanted = (flags or {}).get(VENDOR_FLAG) == "on" and "@edits" in names
        own = VENDOR_TOOLS.get(capabilities.vendor_tools, {}) if wanted else {}
        every = [each for name in names for each in (EDITS[capabilities.edits] if name == "@edits" else (name,))]
        return tuple(dict.fromkeys(own.get(name, name) for name in every))


@cache
def role(name: str) -> Role:
    """Return a role; raises UsageError when there is none of that name."""
    if name not in NAMES:
        raise UsageError(f"There is no role {name!r}.", hint=f"Roles: {', '.join(NAMES)}.")
    data: dict[str, Any] = tomllib.loads(files("redline_agent.roles").joinpath(f"{name}.toml").read_text("utf-8"))
    lists = {key: tuple(data.pop(key)) for key in ("layers", "tools", "small_tools") if key in data}
    return Role(name=name, **lists, **data)


def why_plan(instruction: str) -> str:
    """Return why a task is large enough to be planned first, "" when it goes straight to the executor.

    The rule: more than 60 words, or a list of at least 3 items, or at least 3 files by name.
    """
    words = len(instruction.split())
    if words > _LONG_WORDS:
        return f"the task has {words} words"
    items = len(_ITEM.findall(instruction))
    if items >= _ITEMS:
        return f"the task lists {items} items"
    named = len(set(_FILE.findall(instruction)))
    return f"the task names {named} files" if named >= _FILES else ""
