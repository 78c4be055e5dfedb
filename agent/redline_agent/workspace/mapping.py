"""Where lines are after the text around them has changed: exactly, where each step is known, else by a diff, which of
several equal lines cannot say which is which. Pure; positions are lines from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redline_agent.workspace.hunks import Change

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Step:
    """Changes made at once, in order and apart from each other. `exact`: as they were made, not found by a diff."""

    changes: tuple[Change, ...]
    exact: bool


def applied(lines: Sequence[str], steps: Sequence[Step]) -> list[str]:
    """Return the lines after some steps."""
    out = list(lines)
    for step in steps:
        for change in reversed(step.changes):
            out[change.start : change.end] = change.new
    return out


def mapped(
    start: int, end: int, edits: Sequence[Change], home: tuple[str, str] | None = None, behind: Sequence[Change] = ()
) -> tuple[int, int, bool]:
    """Return where lines [start, end) are after the edits, and whether an edit touched them.

    What comes in just where no lines are goes before them, unless it is known to go `behind` them or begins with the
    line that was after them at `home`.
    """
    shift, touched = 0, False
    new_start, new_end = start, end
    for edit in edits:
        delta = len(edit.new) - (edit.end - edit.start)
        here = start == end == edit.start == edit.end
        if here and (edit in behind or (home and edit.new and edit.new[0] == home[1])):
            break
        if edit.end <= start:
            shift += delta
        elif edit.start >= end:
            break
        else:
            if not touched:
                new_start = min(start, edit.start) + shift
                new_end = end + shift
            touched = True
            new_end = max(new_end, edit.end + shift) + delta
            shift += delta
    if touched:
        return new_start, max(new_start, new_end), True
    return start + shift, end + shift, False


def beside(lines: Sequence[str], start: int, end: int) -> tuple[str, str]:
    """Return the lines before and after [start, end), "" where there is none."""
    return lines[start - 1] if 0 < start <= len(lines) else "", lines[end] if end < len(lines) else ""


def found_again(
    lines: Sequence[str], wanted: tuple[str, ...], around: tuple[str, str], was: Place, edits: Sequence[Change]
) -> Place | None:
    """Return where lines stand again, between the lines that were around them, after an edit at the place where they
    `were`; None where that is nowhere, or in several places.
    """
    pattern = [around[0], *wanted, around[1]]
    places: list[int] = []
    padded = ["", *lines, ""]
    for edit in edits:
        if edit.new and edit.start <= was[1] and was[0] <= edit.end:  # only what an edit brings can be what went before
            first, last = edit.new_start - len(wanted) + 1, edit.new_start + len(edit.new)
            places += [at for at in range(max(0, first), last)
                       if padded[at : at + len(pattern)] == pattern]  # fmt: skip
    return (places[0], places[0] + len(wanted)) if len(places) == 1 else None


def may_slide(lines: Sequence[str], start: int, end: int, edits: Sequence[Change]) -> bool:
    """Whether lines [start, end) could as well be others: a diff could have put an edit on their other side."""
    here = tuple(lines[start:end])
    for edit in edits:
        gone = tuple(lines[edit.start : edit.end])
        if gone and edit.new:
            near = edit.end == start or edit.start == end
            if near and here and (_holds(edit.new, here) or _holds(gone, here)):
                return True
            continue
        block = gone or edit.new
        low, high = edit.start, edit.end
        while low > 0 and lines[low - 1] == block[(low - 1 - edit.start) % len(block)]:
            low -= 1
        while high < len(lines) and lines[high] == block[(high - edit.end) % len(block)]:
            high += 1
        if start < high and low < end:
            return True
    return False


def _holds(lines: Sequence[str], wanted: tuple[str, ...]) -> bool:
    return any(tuple(lines[at : at + len(wanted)]) == wanted for at in range(len(lines) - len(wanted) + 1))
