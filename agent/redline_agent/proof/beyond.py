"""Which findings a change introduces: those that were neither on the same line before, wherever that is by now, nor in
the lines that were changed, nor on a line that was only moved. Pure.

Of the changed lines it is not told which became which: imports that are sorted and wrapped anew stand in others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from redline_agent.text import split_lines
from redline_agent.workspace.hunks import changes

_LINE = re.compile(r"\bline \d+|:\d+:\d+")
Kind = tuple[str, str]
F = TypeVar("F")


def kind(code: str, message: str) -> Kind:
    """Return what makes two findings the same, apart from their lines."""
    return code, _LINE.sub("line", message)


def introduced(
    before: Sequence[F], after: Sequence[F], old: str, new: str, what: Callable[[F], tuple[int, Kind]]
) -> list[F]:
    """Return the findings `after`, in the text `new`, beyond those `before`, in the text `old`.

    `what` gives a finding's line (from 1) and kind.
    """
    old_lines, new_lines = split_lines(old), split_lines(new)
    edits = changes(old_lines, new_lines)

    def place_before(line: int) -> Hashable:
        shift = 0
        for number, edit in enumerate(edits):
            if line < edit.start:
                break
            if line < edit.end:
                return "changed", number
            shift += len(edit.new) - (edit.end - edit.start)
        return line + shift

    def place_after(line: int) -> Hashable:
        for number, edit in enumerate(edits):
            if edit.new_start <= line < edit.new_start + len(edit.new):
                return "changed", number
        return line

    had: Counter[Hashable] = Counter()
    moved: Counter[Hashable] = Counter()
    rewritten: Counter[Hashable] = Counter()
    for each in before:
        line, which = what(each)
        place = place_before(line - 1)
        had[place, which] += 1
        rewritten[which] += isinstance(place, tuple)
        moved[_words(old_lines, line), which] += 1
    left: list[F] = []
    for each in after:
        line, which = what(each)
        key = place_after(line - 1), which
        if had[key] > 0:
            had[key] -= 1
            rewritten[which] -= isinstance(key[0], tuple)
            moved[_words(new_lines, line), which] -= 1
        else:
            left.append(each)
    found: list[F] = []
    for each in left:
        line, which = what(each)
        key = _words(new_lines, line), which
        changed = isinstance(place_after(line - 1), tuple)
        if key[0] and moved[key] > 0:
            moved[key] -= 1
        elif changed and rewritten[which] > 0:
            rewritten[which] -= 1
        else:
            found.append(each)
    return found


def _words(lines: Sequence[str], line: int) -> str:
    return lines[line - 1].strip() if 0 < line <= len(lines) else ""
