"""Extract, inline and move with rope, inside the worker process: the project is only read, its code never run.

What comes back must be valid Python, else nothing is changed.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# rope has no types.
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rope.base.exceptions import RopeError
from rope.refactor.extract import ExtractMethod, ExtractVariable
from rope.refactor.inline import create_inline
from rope.refactor.move import MoveGlobal, create_move

from redline_agent.semantics.rope_rename import CannotRename, flat, offset_of, open_project, target_of
from redline_agent.semantics.scan import parsed, texts
from redline_agent.text import split_lines


def refactor(
    root: str, paths: list[str], above: dict[str, str | None], path: str, kind: str, **how: Any
) -> dict[str, Any]:
    """Do one refactoring: "extract" (start, end, name, expression), "inline" (name, line) or "move" (name, to).

    Returns {"texts": {path: new text, lines ended by line feeds}} or {"error": reason}.
    """
    try:
        return {"texts": _refactor(Path(root), paths, above, path, kind, how)}
    except CannotRename as error:
        return {"error": str(error)}
    except (RopeError, RecursionError, AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        return {"error": f"rope could not {kind} it: {str(error) or type(error).__name__}"}


def _refactor(
    root: Path, paths: list[str], above: dict[str, str | None], path: str, kind: str, how: dict[str, Any]
) -> dict[str, str]:
    python = {p: flat(text) for p, text in texts(str(root), paths, above) if p.endswith((".py", ".pyi"))}
    if path not in python:
        raise CannotRename(f"There is no Python file {path}.")
    if parsed(python[path]) is None:
        raise CannotRename(f"{path} is not valid Python, so nothing can be proven about it.")
    project = open_project(root, above)
    try:
        changed = _changes(project, python, path, kind, how)
    finally:
        project.close()
    changed = {p: text for p, text in changed.items() if text != python.get(p)}
    if not changed:
        raise CannotRename("Nothing would change.")
    for p, text in changed.items():
        if parsed(text) is None:
            raise CannotRename(f"rope's result in {p} is not valid Python, so nothing was changed.")
    return changed


def _changes(project: Any, python: dict[str, str], path: str, kind: str, how: dict[str, Any]) -> dict[str, str]:
    resource, text = project.get_file(path), python[path]
    if kind == "extract":
        result = _extracted(project, resource, text, how)
        return _contents(result)
    name: str = how["name"]
    if kind == "move" and "." in name:
        raise CannotRename("Only what stands at a module's top level can be moved.")
    offset = offset_of(text, target_of(text, path, name, how.get("line")))
    word = re.compile(rf"(?<!\w){re.escape(name.rsplit('.', 1)[-1])}(?!\w)")
    files = [project.get_file(p) for p, each in python.items() if word.search(each) and parsed(each) is not None]
    if kind == "inline":
        return _contents(create_inline(project, resource, offset).get_changes(resources=files))
    to: str = how["to"]
    if to not in python or to == path:
        raise CannotRename(f"{to} is no other Python file here. Create it first.")
    mover = create_move(project, resource, offset)
    if not isinstance(mover, MoveGlobal):
        raise CannotRename(f"{name} is not a function, class or variable of the module.")
    target = project.get_file(to)
    return _contents(mover.get_changes(target, resources=[*files, target]))


def _extracted(project: Any, resource: Any, text: str, how: dict[str, Any]) -> Any:
    lines = split_lines(text)
    start, end, name, expression = how["start"], how["end"], how["name"], how.get("expression", "")
    if not name.isidentifier():
        raise CannotRename(f"{name!r} is not a usable Python name.")
    if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
        raise CannotRename(f"The name {name} is in {resource.path} already.")
    if not 1 <= start <= end <= len(lines):
        raise CannotRename(f"{resource.path} has {len(lines)} lines, so there are no lines {start} to {end}.")
    first = sum(map(len, lines[: start - 1]))
    part = "".join(lines[start - 1 : end])
    if expression:
        if part.count(expression) != 1:
            raise CannotRename(f"{expression!r} is there {part.count(expression)} times in those lines.")
        at = first + part.index(expression)
        return ExtractVariable(project, resource, at, at + len(expression)).get_changes(name)
    indent = len(part) - len(part.lstrip())
    return ExtractMethod(project, resource, first + indent, first + len(part.rstrip())).get_changes(name)


def _contents(result: Any) -> dict[str, str]:
    return {
        change.resource.path.replace("\\", "/"): flat(change.new_contents)
        for change in result.changes
        if hasattr(change, "new_contents")
    }
