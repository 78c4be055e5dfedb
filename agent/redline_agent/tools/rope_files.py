"""What the tools over rope share: asking the helper process, and writing what comes back, all files or none."""

from __future__ import annotations

from typing import Any

from redline_agent.errors import FileRefused, ToolError
from redline_agent.semantics.helper import ask_worker
from redline_agent.text import plural
from redline_agent.tools.base import Outcome, ToolContext
from redline_agent.workspace.textfile import line_end, to_line_end

_TIMEOUT_S = 120.0


async def refactored(context: ToolContext, path: str, kind: str, reason: str, **how: Any) -> Outcome:
    """Do a refactoring in the overlay; raises ToolError with why it cannot be done."""
    if not path.endswith((".py", ".pyi")):
        raise ToolError(f"{path} is not a Python file; this tool knows Python only.", hint="Use `edit`.")
    if context.overlay.find(path) is None:
        raise FileRefused(f"There is no file {path}.", hint="Use `search` to find the definition.")
    reply = await ask_worker(
        context.overlay, "refactor", timeout_s=_TIMEOUT_S, paths=context.readable("."),
        above=context.overlay.texts_above_disk(), path=path, kind=kind, **how,
    )  # fmt: skip
    texts: dict[str, str] = reply["texts"]
    for changed in texts:
        context.check_write(changed)
    with context.overlay.all_or_nothing():
        for changed, flat in sorted(texts.items()):
            seen = context.overlay.find(changed)
            before = seen.file.text if seen else ""
            mark = "\ufeff" if before.startswith("\ufeff") else ""
            context.write(changed, mark + to_line_end(flat, line_end(before)), reason)
    done = f"{reason[0].upper()}{reason[1:]}: changed {plural(len(texts), 'file')} ({', '.join(sorted(texts)[:8])})."
    return Outcome(done, done)
