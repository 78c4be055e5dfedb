"""Which Python test files a change can touch: those that import a changed module, over any number of steps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

FILES_MAX = 4_000
"""Above so many files nobody looks: then all tests are affected."""
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]+))", re.MULTILINE
)
_NAME = re.compile(r"\w+")


def is_test(path: str) -> bool:
    """Whether a file holds tests, by pytest's own rule for names."""
    name = path.rsplit("/", 1)[-1]
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def modules_of(path: str) -> set[str]:
    """Return the names by which a file may be imported: its dotted path, from any of its folders on."""
    parts = path.removesuffix(".pyi").removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return {".".join(parts[at:]) for at in range(len(parts))}


def importers(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Return by module name the files that import it (or something of it)."""
    found: dict[str, set[str]] = {}
    for path, text in texts.items():
        for name in _imported(path, text):
            found.setdefault(name, set()).add(path)
    return found


def affected(texts: Mapping[str, str], changed: Iterable[str]) -> list[str]:
    """Return the test files that a change of some files can touch, those files' own tests among them."""
    graph = importers(texts)
    seen = set(changed)
    queue = list(seen)
    while queue:
        path = queue.pop()
        nearby = [path.rsplit("/", 1)[0] + "/" if "/" in path else ""] if path.endswith("conftest.py") else []
        reached = {each for name in modules_of(path) for each in graph.get(name, ())}
        reached |= {each for folder in nearby for each in texts if each.startswith(folder) and is_test(each)}
        for each in reached - seen:
            seen.add(each)
            queue.append(each)
    return sorted(path for path in seen if is_test(path) and path in texts)


def direct(texts: Mapping[str, str], changed: Iterable[str]) -> list[str]:
    """Return the files that import a changed one themselves."""
    graph, paths = importers(texts), set(changed)
    return sorted({each for path in paths for name in modules_of(path) for each in graph.get(name, ())} - paths)


def _imported(path: str, text: str) -> set[str]:
    names: set[str] = set()
    for found in _IMPORT.finditer(text):
        module, what, plain = found.groups()
        if plain is not None:
            names |= {part for each in plain.split(",") if (part := each.strip().split(" ")[0].rstrip("#;"))}
            continue
        base = _absolute(path, module)
        names.add(base)
        names |= {f"{base}.{name}" if base else name for name in _NAME.findall(what)}
    return {prefix for name in names for prefix in _prefixes(name)}


def _absolute(path: str, module: str) -> str:
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    folders = path.split("/")[:-1]
    above = folders[: len(folders) - (dots - 1)] if dots > 1 else folders
    return ".".join([*above, *([module[dots:]] if module[dots:] else [])])


def _prefixes(name: str) -> list[str]:
    """A module, and the packages around it, whose `__init__` runs as well."""
    parts = name.split(".")
    return [".".join(parts[: at + 1]) for at in range(len(parts))]
