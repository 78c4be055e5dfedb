"""The `fix_lint` tool: ruff's safe fixes on files."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from redline_agent.safety.requests import Request
from redline_agent.semantics.helper import ask_worker
from redline_agent.semantics.ruff import Finding, check_paths, fix_texts
from redline_agent.semantics.scan import parsed
from redline_agent.text import plural
from redline_agent.tools.base import Input, Outcome, Tool, ToolContext
from redline_agent.tools.ruff_files import apply_fixes, left_alone, python_files

RULES: dict[str, tuple[str, ...]] = {"lint": (), "unused": ("F401", "F811", "F841"), "modernise": ("UP",)}
_SAYS = {"lint": "fix lint", "unused": "remove unused", "modernise": "modernise syntax"}
_SCAN_TIMEOUT_S = 60.0


class FixLintInput(Input):
    """A Python file, or a folder for all beneath it; which fixes."""

    path: str
    rules: Literal["lint", "unused", "modernise"] = "lint"


class FixLint(Tool[FixLintInput]):
    """Fix lint."""

    name = "fix_lint"
    input = FixLintInput
    example: ClassVar[Mapping[str, Any]] = {"path": "src", "rules": "unused"}

    def requests(self, arguments: FixLintInput, context: ToolContext) -> Sequence[Request]:
        """Read beneath the path; each file is asked for before it is written."""
        return [context.access("read", arguments.path)]

    def title(self, arguments: FixLintInput) -> str:
        """Say which fixes and where."""
        return f"{_SAYS[arguments.rules].capitalize()} in {arguments.path}"

    async def run(self, arguments: FixLintInput, context: ToolContext) -> Outcome:
        """Take the fixes that ruff calls safe, but for imports that another file takes from this one."""
        paths = python_files(arguments.path, context)
        codes = RULES[arguments.rules]
        found = await check_paths(context.overlay, paths, codes)
        kept = await _exported(found, context)
        guarded = {path for path, findings in found.items() if _for_effect(path, findings, context)}
        fixable = {path for path, findings in found.items() if any(f.fixable for f in findings)}
        texts = {path: seen.file.text for path in sorted(fixable) if (seen := context.overlay.find(path))}
        fixed = await fix_texts(context.overlay, texts, codes, dict.fromkeys(kept | guarded, ("F401",)))
        changed = apply_fixes(fixed, _SAYS[arguments.rules], context)
        remaining = await check_paths(context.overlay, paths, codes)
        head = f"{_SAYS[arguments.rules].capitalize()}: changed {plural(len(changed), 'file')} of {len(paths)}."
        notes = left_alone(sorted(kept), "another file imports what is unused there")
        notes += left_alone(
            sorted(guarded - kept),
            "an unused import there may be for its effect (in a `with` or `try`, or named in a string of code)",
        )
        return Outcome(head + notes + _left(remaining), head)


async def _exported(found: dict[str, list[Finding]], context: ToolContext) -> set[str]:
    """Files with an unused import that some other file takes from them."""
    names = {path: _unused_names(path, findings, context) for path, findings in found.items()}
    names = {path: unused for path, unused in names.items() if unused}
    if not names:
        return set()
    everything = [path for path in context.readable(".") if path.endswith((".py", ".pyi"))]
    above = {p: t for p, t in context.overlay.texts_above_disk().items() if p in set(everything)}
    reply = await ask_worker(
        context.overlay, "exports", timeout_s=_SCAN_TIMEOUT_S, paths=everything, above=above, names=names
    )
    return set(reply["used"])


def _unused_names(path: str, findings: list[Finding], context: ToolContext) -> list[str]:
    """The names that a file's unused imports bind."""
    lines = {finding.line for finding in findings if finding.code == "F401"}
    seen = context.overlay.find(path) if lines else None
    tree = parsed(seen.file.text) if seen else None
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.alias)] if tree else []
    return sorted({each.asname or each.name.split(".")[0] for each in aliases if each.lineno in lines})


def _for_effect(path: str, findings: list[Finding], context: ToolContext) -> bool:
    """Whether an unused import may be there for its effect: in a `with` or `try`, or named in a string."""
    lines = {finding.line for finding in findings if finding.code == "F401"}
    seen = context.overlay.find(path) if lines else None
    tree = parsed(seen.file.text) if seen else None
    if tree is None:
        return False
    nodes = list(ast.walk(tree))
    strings = " ".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    words = set(re.findall(r"\w+", strings))
    if words & set(_unused_names(path, findings, context)):
        return True
    blocks = [node for node in nodes if isinstance(node, ast.With | ast.AsyncWith | ast.Try)]
    return any(block.lineno <= line <= (block.end_lineno or 0) for block in blocks for line in lines)


def _left(remaining: dict[str, list[Finding]]) -> str:
    codes = Counter(finding.code for findings in remaining.values() for finding in findings)
    if not codes:
        return "\nNothing is left to fix."
    shown = ", ".join(f"{code} ({count})" for code, count in codes.most_common(8))
    first = next((f"{path}:{f.line}: {f.code} {f.message}" for path, fs in sorted(remaining.items()) for f in fs), "")
    return f"\nLeft, because it needs judgement: {shown}. The first: {first}"
