"""ruff as a helper: lint, import order, syntax upgrades, on text from the overlay.

ruff reads the project's own configuration (data, never code); only fixes that ruff calls safe are taken.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from redline_agent.errors import RedlineError, ToolError
from redline_agent.safety.process import Finished, run_helper
from redline_agent.together import together
from redline_agent.workspace.overlay import Overlay

_TIMEOUT_S = 60.0
_AT_ONCE = 4
_BATCH_FILES = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """One diagnostic of ruff; lines and columns from 1."""

    code: str
    message: str
    line: int
    column: int
    fixable: bool


@cache
def _ruff() -> str:
    from ruff import find_ruff_bin  # the wheel's own finder, imported when first used

    try:
        return str(find_ruff_bin())
    except FileNotFoundError as error:
        raise ToolError("ruff is not installed beside Redline.", hint="Reinstall Redline.") from error


def _select(codes: tuple[str, ...]) -> list[str]:
    return ["--select", ",".join(codes)] if codes else []


async def _run(overlay: Overlay, args: list[str], stdin: bytes = b"") -> Finished:
    argv = [_ruff(), "check", "--no-cache", "--quiet", "--force-exclude", *args]
    done = await run_helper(argv, stdin=stdin, cwd=overlay.resolver.root, timeout_s=_TIMEOUT_S)
    if done.code > 1:
        argv[2:2] = ["--isolated"]  # the project's configuration cannot be read by this ruff
        done = await run_helper(argv, stdin=stdin, cwd=overlay.resolver.root, timeout_s=_TIMEOUT_S)
    if done.code > 1:
        raise ToolError(f"ruff failed: {done.err.decode('utf-8', 'replace')[:400]}")
    return done


async def check_text(overlay: Overlay, path: str, text: str, codes: tuple[str, ...] = ()) -> list[Finding]:
    """Findings in one text, as if it were the file at `path`."""
    args = ["--output-format", "json", *_select(codes), "--stdin-filename", path, "-"]
    done = await _run(overlay, args, text.encode("utf-8", "replace"))
    return _findings(done.out).get("", [])


async def check_paths(overlay: Overlay, paths: list[str], codes: tuple[str, ...] = ()) -> dict[str, list[Finding]]:
    """Findings by path; what the overlay or a buffer changed is checked as it is there."""
    above = [path for path in paths if _not_as_on_disk(overlay, path)]
    below = [path for path in paths if path not in set(above)]
    found: dict[str, list[Finding]] = {}
    for at in range(0, len(below), _BATCH_FILES):
        args = ["--output-format", "json", *_select(codes), "--", *below[at : at + _BATCH_FILES]]
        by_name = _findings((await _run(overlay, args)).out, str(overlay.resolver.root))
        found.update(by_name)
    for path in above:
        seen = overlay.find(path)
        if seen is not None and (findings := await check_text(overlay, path, seen.file.text, codes)):
            found[path] = findings
    return found


def _not_as_on_disk(overlay: Overlay, path: str) -> bool:
    """Whether ruff must be given the text: edited, open, or in an encoding that it does not read."""
    if path in overlay.touched or overlay.buffers.open_text(path) is not None:
        return True
    try:
        seen = overlay.find(path)
    except RedlineError:
        return False
    return seen is not None and seen.file.encoding != "utf-8"


def _findings(out: bytes, root: str = "") -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    entries: list[dict[str, Any]] = json.loads(out or b"[]")
    for entry in entries:
        name = str(entry["filename"])
        path = name[len(root) :].lstrip("/\\").replace("\\", "/") if root and name.startswith(root) else ""
        fix = entry.get("fix")
        found.setdefault(path, []).append(
            Finding(
                code=entry["code"] or "syntax",
                message=entry["message"],
                line=entry["location"]["row"],
                column=entry["location"]["column"],
                fixable=bool(fix) and fix["applicability"] == "safe",
            )
        )
    return found


async def fix_texts(
    overlay: Overlay,
    texts: dict[str, str],
    codes: tuple[str, ...],
    skipped: dict[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Texts after ruff's safe fixes, by path; `skipped` names codes to leave alone in a file."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(path: str, text: str) -> tuple[str, str]:
        ignored = (skipped or {}).get(path, ())
        kept = tuple(code for code in codes if code not in ignored)
        args = ["--fix-only", *_select(kept), *(["--ignore", ",".join(ignored)] if ignored and not codes else [])]
        if codes and not kept:
            return path, text
        async with gate:
            done = await _run(overlay, [*args, "--stdin-filename", path, "-"], text.encode("utf-8"))
        return path, done.out.decode("utf-8")

    return dict(await together(*(one(path, text) for path, text in texts.items())))
