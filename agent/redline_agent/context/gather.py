"""What the model is told before its first turn: the task, what the editor shows, and what the index finds for it.

The instruction, the file and the lines that were selected with the symbol around them, diagnostics there, the project's
guidance, and a map of the files that the task may be about. All labelled, all masked, all within a budget of tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from redline_agent.context.index import Found, Index
from redline_agent.errors import RedlineError
from redline_agent.events import RunStarted
from redline_agent.messages import REDLINE, USER, Label, Text
from redline_agent.models.base import Capabilities
from redline_agent.prompts.builder import framed
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.secrets import Masks
from redline_agent.semantics.symbols import Symbol, enclosing, symbols
from redline_agent.text import clip, escape_hidden, plain_line_ends, split_lines
from redline_agent.workspace.overlay import Overlay

EDITOR_CONTEXT = "Editor: "
"""How the line about the editor begins; JSON follows. The built-in engine reads it."""
TASK = "task"
"""Detail of the label of the words that a run is for, which steering has not."""

GUIDANCE = ("AGENTS.md", "CLAUDE.md")
INDEX_WAIT_S = 3.0
"""How long a run waits for the index at most; it goes on without one."""
SYMBOL_LINES_MAX = 120
MAP_CHARS_MAX = 4_500
WHOLE_CHARS_MAX = 4_000
"""A file up to this is shown whole to a small model."""
SMALL_CHARS_MAX = 6_000
_SMALL_FILES_MAX = 3
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
    history: str = ""
    """What became of an earlier proposal there: material, not the user's word."""
    about: str = ""
    """What the instruction is about, in Redline's own words, where it goes on from something."""


def task_of(started: RunStarted) -> Task:
    """Return the task that a run was started with, as far as the model was told of it."""
    source = started.content[0].label.model_copy(update={"detail": ""}) if started.content else USER
    told = next((each.text for each in started.content if each.text.startswith(EDITOR_CONTEXT)), "")
    editor: dict[str, Any] = json.loads(told.removeprefix(EDITOR_CONTEXT)) if told else {}
    lines = editor.get("lines")
    return Task(
        started.instruction,
        file=editor.get("file", ""),
        lines=(lines[0], lines[1]) if lines else None,
        targets=tuple(editor.get("targets", ())),
        directive_line=editor.get("directive"),
        cwd=editor.get("cwd", ""),
        source=source,
    )


async def gather(
    task: Task,
    overlay: Overlay,
    keeper: Keeper,
    masks: Masks,
    *,
    index: Index | None = None,
    capabilities: Capabilities | None = None,
) -> tuple[Text, ...]:
    """Return the first message's blocks: the instruction first, then the context; secrets masked, nothing hidden."""
    can = capabilities or Capabilities()
    blocks = [Text(text=masks.masked(task.instruction), label=task.source.model_copy(update={"detail": TASK}))]
    if task.about:
        blocks.append(Text(text=task.about, label=REDLINE))
    editor: dict[str, object] = {
        name: value
        for name, value in (
            ("file", task.file),
            ("lines", list(task.lines or ())),
            ("targets", list(task.targets)),
            ("cwd", task.cwd),
            ("directive", task.directive_line),
        )
        if value
    }
    if editor and can.profile == "standard":
        blocks.append(Text(text=EDITOR_CONTEXT + json.dumps(editor, ensure_ascii=False), label=REDLINE))
    seen = _Seen(overlay, keeper, masks)
    if can.profile == "standard":
        blocks += _excerpt(task, seen)
    if task.diagnostics:
        shown = escape_hidden(masks.masked("\n".join(task.diagnostics[:_DIAGNOSTICS_MAX])))
        text = framed("context", what="Diagnostics there", text=shown)
        blocks.append(Text(text=text, label=Label(source="workspace", detail=task.file)))
    if task.history:
        text = framed("context", what="What became of it", text=escape_hidden(masks.masked(task.history)))
        blocks.append(Text(text=text, label=Label(source="workspace", detail=task.file)))
    if can.profile == "standard":
        blocks += _guidance(seen)
    if index is not None and (can.judges or can.profile == "small"):
        small = can.profile == "small"
        found = await index.find(task, overlay, keeper, wait_s=INDEX_WAIT_S * (4 if small else 1))
        blocks += _excerpts(task, found, seen) if small else _map(found, seen)
    elif can.profile == "small":
        blocks += _excerpts(task, [], seen)
    return tuple(blocks)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Files as the model may see them."""

    overlay: Overlay
    keeper: Keeper
    masks: Masks

    def text(self, path: str) -> str:
        """Return the text, "" for what is not there or may not be read."""
        if not self.keeper.allowed(self.overlay.resolver.access("read", path)):
            return ""
        try:
            seen = self.overlay.find(path)
        except RedlineError:
            return ""
        return escape_hidden(self.masks.masked(plain_line_ends(seen.file.text))) if seen else ""

    def label(self, path: str) -> Label:
        """Return the label of what is shown of a file; one of secrets that the user's settings open is marked."""
        secret = self.keeper.decide(self.overlay.resolver.access("read", path)).secret
        return Label(source="workspace", detail=path, secret=secret)


def _excerpt(task: Task, seen: _Seen) -> list[Text]:
    """The selection, and the symbol that it is in where that is not much longer."""
    if not (task.file and task.lines):
        return []
    text = seen.text(task.file)
    lines = split_lines(text)
    around = enclosing(text, task.file, task.lines[0])
    start, end = max(1, task.lines[0] - 3), min(len(lines), task.lines[1] + 3)
    if around is not None and around.end - around.line < SYMBOL_LINES_MAX:
        start, end = min(start, around.line), max(end, around.end)
    shown = "".join(f"{n}\t{lines[n - 1]}" for n in range(start, min(end, len(lines)) + 1))
    if not shown.strip():
        return []
    text = framed("context", what=f"Around the selection in {task.file}", text=clip(shown, _EXCERPT_CHARS_MAX))
    return [Text(text=text, label=seen.label(task.file))]


def _guidance(seen: _Seen) -> list[Text]:
    for path in GUIDANCE:
        text = seen.text(path)
        if text.strip():
            shown = framed("guidance", path=path, text=clip(text, _GUIDANCE_CHARS_MAX))
            return [Text(text=shown, label=seen.label(path))]
    return []


def _map(found: list[Found], seen: _Seen) -> list[Text]:
    """The map: the likeliest files and what they define, in their order."""
    lines: list[str] = []
    chars = 0
    for each in found:
        entry = [each.path, *(f"  {line}: {seen.masks.masked(text)}" for line, text in each.symbols)]
        chars += sum(map(len, entry))
        if chars > MAP_CHARS_MAX:
            break
        lines += entry
    if not lines:
        return []
    text = framed("context", what="Files that the task may be about, and what they define", text="\n".join(lines))
    return [Text(text=escape_hidden(text), label=Label(source="workspace", detail="the map"))]


def _excerpts(task: Task, found: list[Found], seen: _Seen) -> list[Text]:
    """For a small model: the code itself, whole where it is short, else the symbols that the task names."""
    likely = [*([task.file] if task.file else []), *task.targets, *(each.path for each in found)]
    paths: list[str] = list(dict.fromkeys(likely))
    named = {each.path: each for each in found}
    out: list[Text] = []
    left = SMALL_CHARS_MAX
    for path in paths:
        text = seen.text(path)
        if not text or left <= 0 or len(out) >= _SMALL_FILES_MAX:
            continue
        shown = text if len(text) <= min(left, WHOLE_CHARS_MAX) else _parts(task, text, path, named.get(path), left)
        if not shown:
            continue
        left -= len(shown)
        whole = "" if shown is text else " (parts)"
        out.append(Text(text=framed("context", what=f"{path}{whole}", text=shown), label=seen.label(path)))
    return out


def _parts(task: Task, text: str, path: str, found: Found | None, left: int) -> str:
    """The symbols of a long file that the task is about, the likeliest first, shown in the file's order."""
    lines = split_lines(text)
    every = symbols(text, path)
    wanted = [each for line, _ in (found.symbols if found else ()) for each in every if each.line == line]
    if task.lines and path == task.file:
        around = enclosing(text, path, task.lines[0])
        wanted = [*([around] if around else []), *wanted]
    taken: list[Symbol] = []
    for each in wanted:
        inside = any(other.line <= each.line and each.end <= other.end for other in taken)
        size = sum(map(len, lines[each.line - 1 : each.end]))
        if inside or size > left:
            continue
        left -= size
        taken = [other for other in taken if not (each.line <= other.line and other.end <= each.end)] + [each]
    taken.sort(key=lambda each: each.line)
    return "\n".join("".join(lines[each.line - 1 : each.end]) for each in taken)
