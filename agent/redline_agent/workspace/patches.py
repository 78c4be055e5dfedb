"""Patches without line numbers (the V4A form of OpenAI's models): where each part goes, or a refusal. Pure.

A part is context (" "), lines that go ("-") and lines that come ("+"), beneath anchors ("@@ " and a line above it). It
goes where `matching` finds its old lines, once. An anchor is one line; the next one, and the part, are looked for in
the block that it begins, then in all that follows. A part with no old lines goes right after its anchor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from redline_agent.errors import EditRefused
from redline_agent.text import split_lines
from redline_agent.workspace.hunks import changes
from redline_agent.workspace.matching import replace
from redline_agent.workspace.textfile import line_end, to_line_end

_END = "*** End of File"


@dataclass(slots=True)
class _Part:
    anchors: list[str] = field(default_factory=list[str])
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    at_end: bool = False

    def __bool__(self) -> bool:
        return bool(self.old or self.new)


def created(diff: str) -> str:
    """Return the text of a new file: each line without its "+"."""
    return "".join(line.removeprefix("+") for line in diff.splitlines(keepends=True))


def patched(text: str, diff: str) -> str:
    r"""Return `text` with every part of a diff applied in order; raises EditRefused for one with no place, or several.

    Line ends of the diff may be \n whatever the file has.
    """
    end, flat = line_end(text), to_line_end(text, "\n")
    done, left = "", flat
    for part in _parts(to_line_end(diff, "\n")):
        before, block, after = _from_anchors(left, part.anchors)
        done += before
        left = _applied(block, after, part)
    if done + left == flat:
        raise EditRefused("The patch changes nothing.")
    return _with_line_ends(text, done + left, end)


def _with_line_ends(text: str, flat: str, end: str) -> str:
    """A text of line feeds with each line that was kept as the file has it, and the others with the file's line end."""
    raw, new = split_lines(text), split_lines(flat)
    out: list[str] = []
    at = 0
    for change in changes([to_line_end(line, "\n") for line in raw], new):
        out += [*raw[at : change.start], *(to_line_end(line, end) for line in change.new)]
        at = change.end
    return "".join([*out, *raw[at:]])


def _parts(diff: str) -> list[_Part]:
    parts: list[_Part] = []
    part = _Part()
    for number, line in enumerate(diff.removesuffix("\n").split("\n"), 1):
        if line.startswith(("*** Begin", "*** End Patch", "*** Update")):
            continue
        if line == _END:
            part.at_end = True
        elif line.startswith("@@"):
            if part:
                parts.append(part)
                part = _Part()
            anchor = line[2:].strip().removesuffix("@@").strip()
            part.anchors += [anchor] if anchor else []
        elif line[:1] in ("", " ", "-", "+"):
            part.old += [] if line[:1] == "+" else [line[1:]]
            part.new += [] if line[:1] == "-" else [line[1:]]
        else:
            raise EditRefused(
                f"Line {number} of the patch begins with {line[0]!r}.",
                hint='Begin each line with " ", "-", "+" or "@@".',
            )
    return [*parts, part] if part else parts


def _from_anchors(text: str, anchors: list[str]) -> tuple[str, str, str]:
    """Return the text up to the last anchor's line, the block that this line begins, and the rest."""
    before, block, after = "", "", text
    for anchor in anchors:
        lead, line, rest = _at_line(block, anchor) or _at_line(block + after, anchor) or ("", "", "")
        if not line:
            times = sum(each.strip() == anchor for each in (block + after).split("\n"))
            why = f"is there {times} times" if times else "is not in the file"
            raise EditRefused(f"The anchor {anchor!r} {why} from there on.", hint="Quote a line that is there once.")
        inside = lead + line + rest == block
        before += lead + line
        block, after = _block(line, rest + after if inside else rest)
    return before, block, after


def _at_line(text: str, wanted: str) -> tuple[str, str, str] | None:
    """Split a text at the one line that is the wanted one but for its indentation; None when it is not there once."""
    lines = text.splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if line.strip() == wanted]
    return ("".join(lines[: at[0]]), lines[at[0]], "".join(lines[at[0] + 1 :])) if len(at) == 1 else None


def _block(line: str, rest: str) -> tuple[str, str]:
    """Split what follows a line where its block ends: at the first line that is not indented more."""
    depth = len(line) - len(line.lstrip())
    size = 0
    for each in rest.splitlines(keepends=True):
        if each.strip() and len(each) - len(each.lstrip()) <= depth:
            break
        size += len(each)
    return rest[:size], rest[size:]


def _applied(block: str, after: str, part: _Part) -> str:
    """Return both with a part applied: in the anchor's block where it is there, else anywhere after the anchor."""
    text = block + after
    new = "".join(line + "\n" for line in part.new)
    if not part.old:
        if part.at_end or not part.anchors:
            return text + ("" if text.endswith("\n") or not text else "\n") + new
        return new + text
    old = "".join(line + "\n" for line in part.old)
    if old == new:
        return text
    last = old.removesuffix("\n")
    if not text.endswith("\n") and (text == last or text.endswith("\n" + last)):  # the file's end has no line end
        if re.search(f"(?:^|\n){re.escape(old)}", text):
            raise EditRefused("The lines to replace are there 2 times.", hint="Quote more lines around them.")
        return text[: len(text) - len(last)] + new.removesuffix("\n")
    for where, rest in ((block, after), (text, "")):
        at = [0] if where.startswith(old) else []
        at += [found.start() + 1 for found in re.finditer(f"(?=\n{re.escape(old)})", where)]
        if len(at) == 1:  # whole lines; the first of them may be empty
            return where[: at[0]] + new + where[at[0] + len(old) :] + rest
    return replace(text, old, new, whole_lines=True).text
