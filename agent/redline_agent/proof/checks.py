"""What needs nothing of the project: does a changed file parse, and which findings of ruff does a change introduce."""

from __future__ import annotations

import json
import tomllib
import warnings

from redline_agent.errors import ToolError
from redline_agent.proof.beyond import introduced, kind
from redline_agent.semantics.ruff import check_text
from redline_agent.text import one_line, plural
from redline_agent.workspace.overlay import Overlay, Touched
from redline_agent.workspace.proposal import ProofItem
from redline_agent.workspace.textfile import TextFile

_LINT_CODES = ("E9", "F63", "F7", "F82", "F811", "F821", "F822", "F823")
_PARSED = {".json": "JSON", ".toml": "TOML", ".py": "Python", ".pyi": "Python"}
_PARSE_BYTES_MAX = 2 * 2**20


def parsed(path: str, touched: Touched, base: TextFile | None) -> ProofItem | None:
    """Return whether a changed file parses; None for one of no known language. `base` is what it was before."""
    language = next((name for end, name in _PARSED.items() if path.endswith(end)), None)
    text = touched.text or ""
    if language is None or len(text) > _PARSE_BYTES_MAX:
        return None
    if language == "JSON" and _with_comments(path):
        return None
    after = _error(language, text.removeprefix("\ufeff"))
    before = _error(language, base.text.removeprefix("\ufeff")) if base else ""
    if not after:
        return ProofItem("parses", "current", True, f"valid {language}", path)
    if before:
        return ProofItem("parses", "current", None, f"not valid {language}, as before the change: {after}", path)
    return ProofItem("parses", "current", False, f"not valid {language}: {after}", path)


def _with_comments(path: str) -> bool:
    """Whether a JSON file is one that may have comments."""
    name = path.rsplit("/", 1)[-1]
    return name.startswith(("tsconfig", "jsconfig", ".eslintrc", "devcontainer")) or path.startswith(".vscode/")


def _error(language: str, text: str) -> str:
    try:
        match language:
            case "JSON":
                json.loads(text)
            case "TOML":
                tomllib.loads(text)
            case _:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    compile(text, "<overlay>", "exec", dont_inherit=True, flags=0x400)  # PyCF_ONLY_AST: no code is made
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return one_line(str(error) or type(error).__name__)
    return ""


async def linted(overlay: Overlay, path: str, touched: Touched, base: TextFile | None) -> ProofItem:
    """Return which of ruff's findings on syntax and names a Python file's change introduces."""
    try:
        after = await check_text(overlay, path, touched.text or "", _LINT_CODES)
        before = await check_text(overlay, path, base.text, _LINT_CODES) if after and base else []
    except ToolError as error:
        state = "timed-out" if "more than" in error.message else "unavailable"
        return ProofItem("diagnostics", state, None, error.message, path)
    old = base.text if base else ""
    new = introduced(before, after, old, touched.text or "", lambda each: (each.line, kind(each.code, each.message)))
    if not new:
        return ProofItem("diagnostics", "current", True, "introduces none (ruff: syntax and names)", path)
    shown = "; ".join(f"line {f.line}: {f.code} {one_line(f.message, 80)}" for f in new[:5])
    return ProofItem("diagnostics", "current", False, f"introduces {plural(len(new), 'finding')}: {shown}", path)
