"""Scans over many files, run inside the worker process: text search, and who imports a name. Knows no overlay:
it is given the paths, and the texts that differ from the disk.
"""

from __future__ import annotations

import ast
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redline_agent.errors import FileRefused
from redline_agent.workspace.textfile import decode

_LINE_CHARS_MAX = 200


def texts(root: str, paths: list[str], above: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    """Each path that is text, with its text as the overlay has it."""
    for path in paths:
        if path in above:
            text = above[path]
            if text is not None:
                yield path, text
            continue
        try:
            yield path, decode((Path(root) / path).read_bytes(), path).text
        except (OSError, FileRefused):
            continue


def search(
    root: str, paths: list[str], above: dict[str, str | None], pattern: str, hits_max: int, seconds_max: float
) -> dict[str, Any]:
    """Lines that the regular expression matches: [path, line number, line]; `more` when there were too many."""
    try:
        found = re.compile(pattern).search
    except re.error as error:
        return {
            "error": f"The pattern is not a regular expression: {error}. Escape special characters with a backslash."
        }
    hits: list[tuple[str, int, str]] = []
    until = time.monotonic() + seconds_max
    for path, text in texts(root, paths, above):
        for number, line in enumerate(text.splitlines(), 1):
            if found(line):
                hits.append((path, number, line.strip()[:_LINE_CHARS_MAX]))
                if len(hits) >= hits_max:
                    return {"hits": hits, "more": True}
        if time.monotonic() > until:
            return {"hits": hits, "more": True}
    return {"hits": hits, "more": False}


def imported_elsewhere(
    root: str, paths: list[str], above: dict[str, str | None], names: dict[str, list[str]]
) -> dict[str, Any]:
    """For each file of `names`, those of its names that another file takes from it: {"used": {path: [name]}}."""
    by_stem: dict[str, set[str]] = {}
    for path in names:
        by_stem.setdefault(_stem(path), set()).add(path)
    used: dict[str, set[str]] = {path: set() for path in names}
    for path, text in texts(root, paths, above):
        if not any(stem in text for stem in by_stem) and "import" not in text:
            continue
        tree = parsed(text)
        for stem, name in _taken(tree) if tree else ():
            for owner in by_stem.get(stem, set()) - {path}:
                used[owner] |= set(names[owner]) if name == "*" else {name} & set(names[owner])
    return {"used": {path: sorted(found) for path, found in used.items() if found}}


def parsed(text: str) -> ast.Module | None:
    """Syntax tree of a Python text, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _stem(path: str) -> str:
    parts = path.removesuffix(".py").removesuffix(".pyi").split("/")
    return parts[-2] if parts[-1] == "__init__" and len(parts) > 1 else parts[-1]


def _taken(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Pairs of a module's last name and what is taken from it; names that stand for a module are looked through."""
    nodes = list(ast.walk(tree))
    stands_for = {
        alias.asname: alias.name.split(".")[-1]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            stem = (node.module or "").split(".")[-1]
            for alias in node.names:
                yield stem, alias.name
                if not stem:
                    yield alias.name, ""
        elif isinstance(node, ast.Attribute):
            value = node.value
            if isinstance(value, ast.Name):
                yield stands_for.get(value.id, value.id), node.attr
            elif isinstance(value, ast.Attribute):
                yield value.attr, node.attr
