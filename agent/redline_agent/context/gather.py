"""What the model is told before its first turn: the task, and what the editor shows. All labelled, all bounded.

This is the first, small gathering: the instruction, the file and the lines that were selected, diagnostics there,
the project's guidance. A repo map and retrieval belong here later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from redline_agent.errors import RedlineError
from redline_agent.messages import REDLINE, USER, Label, Text
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Access
from redline_agent.safety.secrets import Masks
from redline_agent.text import clip, escape_hidden, plain_line_ends, split_lines
from redline_agent.workspace.overlay import Overlay

EDITOR_CONTEXT = "Editor: "
"""How the line about the editor begins; JSON follows. The built-in engine reads it."""
TASK = "task"
"""Detail of the label of the words that a run is for, which steering has not."""

GUIDANCE = ("AGENTS.md", "CLAUDE.md")
_GUIDANCE_CHARS_MAX = 8_000
_EXCERPT_CHARS_MAX = 6_000
_DIAGNOSTICS_MAX = 20


@dataclass(frozen=True, slots=True)
class Task:
    """What the user asked for, and where they stood. Lines from 1, both ends included; paths are resolved."""

    instruction: str
    file: str = ""
    lines: tuple[int, int] | None = None
    targets: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()
    directive_line: int | None = None
    cwd: str = ""
    source: Label = field(default=USER)


def gather(task: Task, overlay: Overlay, keeper: Keeper, masks: Masks) -> tuple[Text, ...]:
    """Return the first message's blocks: the instruction first, then the context; secrets masked, nothing hidden."""
    blocks = [Text(text=masks.masked(task.instruction), label=task.source.model_copy(update={"detail": TASK}))]
    editor: dict[str, object] = {}
    if task.file:
        editor["file"] = task.file
    if task.lines:
        editor["lines"] = list(task.lines)
    if task.targets:
        editor["targets"] = list(task.targets)
    if task.cwd:
        editor["cwd"] = task.cwd
    if editor:
        blocks.append(Text(text=EDITOR_CONTEXT + json.dumps(editor, ensure_ascii=False), label=REDLINE))
    blocks += _excerpt(task, overlay, keeper, masks)
    if task.diagnostics:
        shown = escape_hidden(masks.masked("\n".join(task.diagnostics[:_DIAGNOSTICS_MAX])))
        blocks.append(Text(text=f"Diagnostics there:\n{shown}", label=Label(source="workspace", detail=task.file)))
    return (*blocks, *_guidance(overlay, keeper, masks))


def _excerpt(task: Task, overlay: Overlay, keeper: Keeper, masks: Masks) -> list[Text]:
    if not (task.file and task.lines) or not keeper.allowed(Access("read", task.file)):
        return []
    try:
        seen = overlay.find(task.file)
    except RedlineError:
        return []
    lines = split_lines(escape_hidden(masks.masked(plain_line_ends(seen.file.text)))) if seen else []
    start, end = max(1, task.lines[0] - 3), min(len(lines), task.lines[1] + 3)
    shown = "".join(f"{n}\t{lines[n - 1]}" for n in range(start, end + 1))
    if not shown.strip():
        return []
    text = f"Around the selection in {task.file}:\n{clip(shown, _EXCERPT_CHARS_MAX)}"
    return [Text(text=text, label=Label(source="workspace", detail=task.file))]


def _guidance(overlay: Overlay, keeper: Keeper, masks: Masks) -> list[Text]:
    for path in GUIDANCE:
        try:
            seen = overlay.find(path) if keeper.allowed(overlay.resolver.access("read", path)) else None
        except RedlineError:
            continue
        if seen is not None and seen.file.text.strip():
            shown = clip(escape_hidden(masks.masked(plain_line_ends(seen.file.text))), _GUIDANCE_CHARS_MAX)
            text = f"The project's guidance, from {path}:\n{shown}"
            return [Text(text=text, label=Label(source="workspace", detail=path))]
    return []
