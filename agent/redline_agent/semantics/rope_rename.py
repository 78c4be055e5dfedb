"""Renaming a Python symbol with rope, inside the worker process: what is proven to be the same symbol is renamed,
what could not be proven is listed, and a name that would collide refuses the whole rename.

The project is only read: no `.ropeproject`, no object database, no configuration of the project is executed, and the
texts come from the overlay.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import tokenize
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rope.base.exceptions import RopeError
from rope.base.fscommands import FileSystemCommands
from rope.base.project import Project
from rope.refactor.rename import Rename

from redline_agent.semantics.scan import parsed, texts

_LISTED_MAX = 40
_BOMS = (b"\xef\xbb\xbf",)


class CannotRename(Exception):
    """Why nothing was renamed; the message goes to the model and the user."""


@dataclass(frozen=True, slots=True)
class _Binding:
    """A place that binds a name: its scope ("" is the module), whether that is a class, line and column from 1 / 0."""

    scope: str
    in_class: bool
    line: int
    column: int


class _OverlayFiles(FileSystemCommands):
    """What rope reads: the overlay's text where it differs, else the disk."""

    def __init__(self, root: Path, above: dict[str, str | None]) -> None:
        self._above = {str(root / path): text for path, text in above.items()}

    def read(self, path: str) -> bytes:
        text = self._above.get(str(path))
        if text is not None:
            return text.encode("utf-8")
        data = Path(path).read_bytes()
        return data.removeprefix(_BOMS[0])


def open_project(root: Path, above: dict[str, str | None]) -> Any:
    """Return rope's project over the overlay's texts; nothing of the project is executed."""
    return Project(
        str(root), fscommands=_OverlayFiles(root, above), ropefolder=None,  # pyright: ignore[reportArgumentType]  rope's own documented way to have none
        automatic_soa=False, validate_objectdb=False,
        save_objectdb=False, python_path=[], ignore_syntax_errors=True, ignore_bad_imports=True,
    )  # fmt: skip


def rename(
    root: str, paths: list[str], above: dict[str, str | None], path: str, old: str, new: str, line: int | None
) -> dict[str, Any]:
    """Rename `old` (a name, or Class.name) as bound or used in the file `path` to `new`.

    Returns {"texts": {path: new text, lines ended by line feeds}, "unproven": [[path, line, text, why]],
    "unproven_count": int, "uses": int}, or {"error": reason}.
    """
    try:
        return _rename(Path(root), paths, above, path, old, new, line)
    except CannotRename as error:
        return {"error": str(error)}
    except (RopeError, RecursionError, AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        return {"error": f"rope could not rename it: {type(error).__name__}: {error}"}


def _rename(
    root: Path,
    paths: list[str],
    above: dict[str, str | None],
    path: str,
    old: str,
    new: str,
    line: int | None,
) -> dict[str, Any]:
    name = old.rsplit(".", 1)[-1]
    _check_name(name, new)
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    having = {p: flat(text) for p, text in texts(str(root), paths, above) if word.search(text)}
    if path not in having:
        raise CannotRename(f"The name {name} is not in {path}.")
    python = {p: text for p, text in having.items() if p.endswith((".py", ".pyi"))}
    broken = [p for p, text in python.items() if parsed(text) is None]
    if path in broken:
        raise CannotRename(f"{path} is not valid Python, so nothing can be proven about {name}.")
    target = target_of(having[path], path, old, line)
    project = open_project(root, above)
    try:
        unsure: list[tuple[str, int]] = []

        def note(occurrence: Any) -> bool:
            unsure.append((occurrence.resource.path, occurrence.lineno))
            return False

        offset = offset_of(having[path], target)
        work: Any = Rename(project, project.get_file(path), offset)
        files = [project.get_file(p) for p in python if p not in broken]
        result = work.get_changes(new, in_hierarchy=target.in_class, unsure=note, resources=files)
        changed: dict[str, str] = {
            change.resource.path.replace("\\", "/"): flat(change.new_contents)
            for change in result.changes
            if hasattr(change, "new_contents")
        }
    finally:
        project.close()
    if not changed:
        raise CannotRename(f"rope found no use of {name} that it can prove.")
    _check_collisions(python, changed, new, target)
    if not target.scope:
        changed = {p: _export(text, name, new) for p, text in changed.items()}
    unproven = _unproven(having, changed, unsure, word, broken)
    if not target.scope or target.in_class:
        unproven += _others(python, changed, {(p, n) for p, n, _, _ in unproven}, name)
    uses = sum(len(word.findall(having[p])) - len(word.findall(text)) for p, text in changed.items())
    return {
        "texts": changed,
        "unproven": unproven[:_LISTED_MAX],
        "unproven_count": len(unproven),
        "uses": uses,
    }


def flat(text: str) -> str:
    """Return a text with line feeds alone, and no byte order mark."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _check_name(name: str, new: str) -> None:
    if not new.isidentifier() or keyword.iskeyword(new):
        raise CannotRename(f"{new!r} is not a usable Python name.")
    if name == new:
        raise CannotRename("The old and the new name are the same.")
    if name.startswith("__") and name.endswith("__"):
        raise CannotRename(f"{name} has a meaning to Python itself, so it is not renamed.")


def _bindings(tree: ast.Module, name: str) -> list[_Binding]:
    """Every place that binds `name`, with its scope."""
    found: list[_Binding] = []

    def add(scope: list[str], in_class: bool, node: ast.AST) -> None:
        found.append(_Binding(".".join(scope), in_class, getattr(node, "lineno", 1), getattr(node, "col_offset", 0)))

    def walk(node: ast.AST, scope: list[str], in_class: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if child.name == name:
                    add(scope, in_class, child)
                walk(child, [*scope, child.name], isinstance(child, ast.ClassDef))
                continue
            if (
                (isinstance(child, ast.Name) and child.id == name and isinstance(child.ctx, ast.Store))
                or (isinstance(child, ast.arg) and child.arg == name)
                or (isinstance(child, ast.alias) and (child.asname or child.name) == name)
            ):
                add(scope, in_class, child)
            elif (
                isinstance(child, ast.Attribute)
                and child.attr == name
                and isinstance(child.ctx, ast.Store)
                and isinstance(child.value, ast.Name)
                and child.value.id == "self"
                and len(scope) > 1
            ):
                found.append(
                    _Binding(
                        ".".join(scope[:-1]),
                        True,
                        child.end_lineno or child.lineno,
                        (child.end_col_offset or 0) - len(name),
                    )
                )
            walk(child, scope, in_class)

    walk(tree, [], False)
    return found


def target_of(text: str, path: str, old: str, line: int | None) -> _Binding:
    """Return the one binding that the request means; raises CannotRename when it could mean several."""
    scope, _, name = old.rpartition(".")
    tree = parsed(text)
    found = _bindings(tree, name) if tree else []
    if line is not None and not scope:
        return _on_line(text, found, name, line, path)
    if scope:
        found = [b for b in found if b.scope == scope or b.scope.endswith("." + scope)]
    elif any(not b.scope for b in found):
        found = [b for b in found if not b.scope]
    scopes = {b.scope for b in found}
    if not found:
        hint = "" if not tree or scope else _used(text, name)
        raise CannotRename(f"{path} does not define {old}.{hint}")
    if len(scopes) > 1:
        places = ", ".join(f"{b.scope}.{name} (line {b.line})" for b in found[:8])
        raise CannotRename(f"{old} could be any of these in {path}: {places}. Name one of them, as in Class.{name}.")
    return min(found, key=lambda b: b.line)


def _used(text: str, name: str) -> str:
    lines = [str(i) for i, line in enumerate(text.split("\n"), 1) if re.search(rf"\b{re.escape(name)}\b", line)]
    return f" It is only mentioned there (lines {', '.join(lines[:5])}); name the file that defines it."


def _on_line(text: str, found: list[_Binding], name: str, line: int, path: str) -> _Binding:
    here = [b for b in found if b.line == line]
    if here:
        return here[0]
    lines = text.split("\n")
    match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", lines[line - 1]) if 0 < line <= len(lines) else None
    if match is None:
        raise CannotRename(f"Line {line} of {path} has no {name}.")
    module = [b for b in found if not b.scope]
    attribute = lines[line - 1][: match.start()].rstrip().endswith(".")
    scope = "" if module and not attribute else "?"
    column = len(lines[line - 1][: match.start()].encode())
    return _Binding(scope, attribute, line, column)


def offset_of(text: str, target: _Binding) -> int:
    """Offset of the bound name itself; a def or class node starts at its keyword, an alias may rename."""
    lines = text.split("\n")
    start = sum(len(line) + 1 for line in lines[: target.line - 1])
    line = lines[target.line - 1]
    at = len(line.encode()[: target.column].decode(errors="ignore"))
    keyword_match = re.match(r"(?:async\s+def|def|class)\s+", line[at:])
    if keyword_match:
        return start + at + keyword_match.end()
    alias = re.match(r"[\w.]+\s+as\s+", line[at:])
    return start + at + (alias.end() if alias else 0)


def _check_collisions(python: dict[str, str], changed: dict[str, str], new: str, target: _Binding) -> None:
    if not target.in_class and hasattr(builtins, new):
        raise CannotRename(f"{new} is the name of a Python builtin, which the rename would hide.")
    for path, after in changed.items():
        tree = parsed(python[path])
        taken = [b for b in _bindings(tree, new) if b.in_class == target.in_class] if tree else []
        if taken:
            raise CannotRename(f"{new} is already in use: {path}, line {taken[0].line}. Choose another name.")
        if parsed(after) is None:
            raise CannotRename(f"The rename would leave {path} as invalid Python, so it was not done.")


def _export(text: str, name: str, new: str) -> str:
    """Rename the entry of a module-level `__all__` too: it is the same symbol by Python's own definition."""
    tree = parsed(text)
    lines = text.split("\n")
    for node in tree.body if tree else []:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        if not any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            continue
        entries = [c for c in ast.walk(node) if isinstance(c, ast.Constant) and c.value == name]
        for entry in sorted(entries, key=lambda c: (c.lineno, c.col_offset), reverse=True):
            raw = lines[entry.lineno - 1].encode()
            literal = raw[entry.col_offset : entry.end_col_offset].replace(name.encode(), new.encode())
            lines[entry.lineno - 1] = (raw[: entry.col_offset] + literal + raw[entry.end_col_offset :]).decode()
    return "\n".join(lines)


def _unproven(
    having: dict[str, str],
    changed: dict[str, str],
    unsure: list[tuple[str, int]],
    word: re.Pattern[str],
    broken: list[str],
) -> list[tuple[str, int, str, str]]:
    """What still says the old name and could mean the symbol: uses that rope could not decide, strings, prose."""
    out: list[tuple[str, int, str, str]] = []
    for path, line in sorted(set(unsure)):
        path = path.replace("\\", "/")  # noqa: PLW2901
        out.append((path, line, having[path].split("\n")[line - 1].strip()[:160], "the object's type is not known"))
    for path in sorted(having):
        text = changed.get(path, having[path])
        if path in broken:
            out.append((path, 1, "", "not valid Python"))
        elif path.endswith((".py", ".pyi")):
            out += [(path, line, shown, "in a string or comment") for line, shown in _mentions(text, word)]
        else:
            lines = [(i, shown.strip()[:160]) for i, shown in enumerate(text.split("\n"), 1) if word.search(shown)]
            out += [(path, line, shown, "not Python code") for line, shown in lines[:3]]
    return out


def _others(
    python: dict[str, str], changed: dict[str, str], listed: set[tuple[str, int]], name: str
) -> list[tuple[str, int, str, str]]:
    """Each other file's first use of the same name as code, which rope takes for another symbol."""
    out: list[tuple[str, int, str, str]] = []
    for path in sorted(python.keys() - changed.keys()):
        for token in _tokens(python[path]):
            if token.type == tokenize.NAME and token.string == name and (path, token.start[0]) not in listed:
                out.append((path, token.start[0], token.line.strip()[:160], "taken for another symbol of that name"))
                break
    return out


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return []


def _mentions(text: str, word: re.Pattern[str]) -> list[tuple[int, str]]:
    found: dict[int, str] = {}
    for token in _tokens(text):
        if token.type in (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            for i, shown in enumerate(token.string.split("\n")):
                if word.search(shown):
                    found[token.start[0] + i] = shown.strip()[:160]
    return sorted(found.items())
