"""What the two ruff tools share: which files, and writing the fixed texts. Not a tool itself."""

from __future__ import annotations

from redline_agent.errors import FileRefused
from redline_agent.text import plural
from redline_agent.tools.base import ToolContext

_SHOWN_MAX = 8


def python_files(name: str, context: ToolContext) -> list[str]:
    """Python files at or beneath a path; raises FileRefused when there are none."""
    path = context.resolve(name)
    if path != "." and not context.overlay.exists(path) and not context.overlay.resolver.is_dir(path):
        raise FileRefused(f"There is no {path}.", hint="Use `list` or `search` to find it.")
    paths = [each for each in context.readable(path) if each.endswith((".py", ".pyi"))]
    if not paths:
        where = "this folder" if path == "." else path
        raise FileRefused(f"There is no Python file in {where}.", hint="Name a Python file or its folder.")
    return paths


def apply_fixes(fixed: dict[str, str], reason: str, context: ToolContext) -> list[str]:
    """Write the fixed texts, all or none, but for files that may not be written; returns what changed."""
    changed: list[str] = []
    with context.overlay.all_or_nothing():
        for path, text in sorted(fixed.items()):
            seen = context.overlay.find(path)
            if seen is not None and seen.file.text != text and context.allowed("write", path):
                context.write(path, text, reason)
                changed.append(path)
    return changed


def left_alone(paths: list[str], why: str) -> str:
    """Return a sentence on files that were left, "" when there are none."""
    if not paths:
        return ""
    more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
    return f"\nLeft alone {plural(len(paths), 'file')}, because {why}: {', '.join(paths[:_SHOWN_MAX])}{more}."
