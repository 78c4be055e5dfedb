"""The `organise_imports` tool: ruff's import order on Python files; other languages' by their language server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from redline_agent.errors import ToolError
from redline_agent.proof.language import ORGANISE
from redline_agent.safety.requests import Request
from redline_agent.semantics.ruff import check_paths, fix_texts
from redline_agent.semantics.scan import parsed
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.quick_fix import write_all
from redline_agent.tools.ruff_files import apply_fixes, left_alone, python_files


class OrganiseImportsInput(Input):
    """A file, or a folder for all Python files beneath it."""

    path: str


class OrganiseImports(Tool[OrganiseImportsInput]):
    """Sort imports."""

    name = "organise_imports"
    input = OrganiseImportsInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src"}

    def requests(self, arguments: OrganiseImportsInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path; each file is asked for before it is written."""
        return [context.access("read", arguments.path)]

    def title(self, arguments: OrganiseImportsInput) -> str:
        """Name the path."""
        return f"Organising imports in {arguments.path}"

    async def run(self, arguments: OrganiseImportsInput, context: ToolContext) -> Outcome:
        """Sort where order cannot matter; a package's `__init__.py` and star imports are left alone."""
        path = context.resolve(arguments.path)
        is_file = context.overlay.exists(path) and not context.overlay.resolver.is_dir(path)
        if is_file and not path.endswith((".py", ".pyi")):
            return await _by_server(path, context)
        paths = python_files(arguments.path, context)
        found = await check_paths(context.overlay, paths, ("I001",))
        texts: dict[str, str] = {}
        left: list[str] = []
        for path in found:
            seen = context.overlay.find(path)
            if seen is None:
                continue
            if path.rsplit("/", 1)[-1] == "__init__.py" or _stars(seen.file.text):
                left.append(path)
            else:
                texts[path] = seen.file.text
        fixed = await fix_texts(context.overlay, texts, ("I001",))
        changed = apply_fixes(fixed, "organise imports", context)
        head = f"Organised the imports of {plural(len(changed), 'file')} of {len(paths)}."
        why = "there the order can matter (a package's __init__.py, or import *)"
        return Outcome(head + left_alone(left, why), head)


async def _by_server(path: str, context: ToolContext) -> Outcome:
    language = context.services.language
    if language is None:
        raise ToolError(f"{path} is not a Python file, and there are no language servers here.")
    context.see(path)
    fixes = [each for each in await language.fixes(path, 1) if each.kind.startswith(ORGANISE)]
    if not fixes:
        return Outcome(f"No language server changes the imports of {path}.", f"left the imports of {path}")
    write_all(context, fixes[0].texts, "organise imports")
    head = f"Organised the imports of {path} by {fixes[0].server}."
    return Outcome(head, head)


def _stars(text: str) -> bool:
    tree = parsed(text) if "import *" in text or "import(" in text.replace(" ", "") else None
    return tree is not None and "import *" in text
