"""Hunks: the smallest contiguous changes between two texts, applied or left one by one. Pure.

A hunk is in lines. Any subset of a file's hunks applied to the old text is well defined; all of them give
the new text, none of them the old one, byte for byte.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redline_agent.text import split_lines

PAIRS_MAX = 250_000
"""Above so many pairs of lines, those that are everywhere are no longer matched: the diff is coarser, and quick."""


@dataclass(frozen=True, slots=True)
class Change:
    """Lines [start, end) of the old text become `new`; new_start is where `new` begins in the new text."""

    start: int
    end: int
    new: tuple[str, ...]
    new_start: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What made a change: a turn's tool call (or the directive), and the reason in words."""

    turn: int
    call_id: str
    tool: str
    reason: str

    def as_json(self) -> dict[str, object]:
        """Return the origin as the public surface shows it."""
        return {"turn": self.turn, "callId": self.call_id, "tool": self.tool}


def changes(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """Changes from `old` lines to `new` lines, in order, never touching each other."""
    blocks = list(_differing(old, new))
    merged: list[list[int]] = []
    for a1, a2, b1, b2 in blocks:
        if merged and merged[-1][1] == a1 and merged[-1][3] == b1:
            merged[-1][1], merged[-1][3] = a2, b2
        else:
            merged.append([a1, a2, b1, b2])
    return [Change(a1, a2, tuple(new[b1:b2]), b1) for a1, a2, b1, b2 in merged]


def _differing(a: Sequence[str], b: Sequence[str]) -> Iterable[tuple[int, int, int, int]]:
    """Differing blocks (a1, a2, b1, b2): common ends off, then between lines unique to both, then difflib."""
    low = 0
    while low < min(len(a), len(b)) and a[low] == b[low]:
        low += 1
    top = 0
    while top < min(len(a), len(b)) - low and a[-1 - top] == b[-1 - top]:
        top += 1
    a_end, b_end = len(a) - top, len(b) - top
    at_a, at_b = low, low
    for anchor_a, anchor_b in [*_anchors(a, b, low, a_end, b_end), (a_end, b_end)]:
        if anchor_a > at_a or anchor_b > at_b:
            large = (anchor_a - at_a) * (anchor_b - at_b) > PAIRS_MAX
            matcher = difflib.SequenceMatcher(None, a[at_a:anchor_a], b[at_b:anchor_b], autojunk=large)
            for tag, i1, i2, j1, j2 in matcher.get_opcodes():
                if tag != "equal":
                    yield at_a + i1, at_a + i2, at_b + j1, at_b + j2
        at_a, at_b = anchor_a + 1, anchor_b + 1


def _anchors(a: Sequence[str], b: Sequence[str], low: int, a_end: int, b_end: int) -> list[tuple[int, int]]:
    """Lines that are unique in both middles, as the longest chain that rises in both."""
    in_a, in_b = _unique(a, low, a_end), _unique(b, low, b_end)
    pairs = sorted((in_a[line], in_b[line]) for line in in_a.keys() & in_b.keys())
    tails: list[int] = []
    tail_at: list[int] = []
    back: list[int] = [-1] * len(pairs)
    for index, (_, place) in enumerate(pairs):
        at = bisect_left(tails, place)
        if at == len(tails):
            tails.append(place)
            tail_at.append(index)
        else:
            tails[at], tail_at[at] = place, index
        back[index] = tail_at[at - 1] if at else -1
    chain: list[tuple[int, int]] = []
    index = tail_at[-1] if tail_at else -1
    while index >= 0:
        chain.append(pairs[index])
        index = back[index]
    return chain[::-1]


def _unique(lines: Sequence[str], low: int, high: int) -> dict[str, int]:
    seen: dict[str, int] = {}
    for at in range(low, high):
        seen[lines[at]] = -1 if lines[at] in seen else at
    return {line: at for line, at in seen.items() if at >= 0}


def merged(base: str, ours: str, theirs: str) -> str | None:
    """Return the text with both sides' changes of `base`; None where they touch the same lines in different ways."""
    old = split_lines(base)
    mine, other = changes(old, split_lines(ours)), changes(old, split_lines(theirs))
    both: list[Change] = [*mine]
    for change in other:
        same = any((c.start, c.end, c.new) == (change.start, change.end, change.new) for c in mine)
        if same:
            continue
        if any(c.start <= change.end and change.start <= c.end for c in mine):
            return None
        both.append(change)
    lines = _with(old, sorted(both, key=lambda each: each.start))
    glued = any(
        not line.endswith(("\n", "\r")) for line in lines[:-1]
    )  # two last lines, of which one is no longer last
    return None if glued else "".join(lines)


def with_part(base: str, texts: Iterable[str], now: str) -> str:
    """Return the base with those changes of `now` that one of the texts makes too, line for line."""
    old = split_lines(base)
    known = {(c.start, c.end, c.new) for text in texts for c in changes(old, split_lines(text))}
    return "".join(_with(old, (c for c in changes(old, split_lines(now)) if (c.start, c.end, c.new) in known)))


def without_overlaps(base: str, texts: Iterable[str], now: str) -> str:
    """Return the base with those changes of `now` that touch no line which one of the texts changes."""
    old = split_lines(base)
    taken = [c for text in texts for c in changes(old, split_lines(text))]
    every = changes(old, split_lines(now))
    return "".join(_with(old, (c for c in every if not any(t.start <= c.end and c.start <= t.end for t in taken))))


def _with(old: Sequence[str], some: Iterable[Change]) -> list[str]:
    """The old lines with some changes, in their order."""
    out: list[str] = []
    at = 0
    for change in some:
        out += [*old[at : change.start], *change.new]
        at = change.end
    return [*out, *old[at:]]


class Blame:
    """Which operations made each line of a text, followed through its edits.

    Holds an entry for each line, and one for each gap before a line (what was deleted there).
    """

    def __init__(self, text: str) -> None:
        self._lines = split_lines(text)
        self._made: list[frozenset[int]] = [frozenset()] * len(self._lines)
        self._gone: list[frozenset[int]] = [frozenset()] * (len(self._lines) + 1)
        self._operations: set[int] = set()

    def edit(self, text: str, operation: int) -> None:
        """Record that `operation` turned the current text into `text`."""
        lines = split_lines(text)
        self._operations.add(operation)
        for change in reversed(changes(self._lines, lines)):
            start, end = change.start, change.end
            before = frozenset({operation}).union(*self._made[start:end], *self._gone[start : end + 1])
            self._made[start:end] = [before] * len(change.new)
            gaps = [frozenset[int]()] * max(0, len(change.new) - 1)
            gone = self._gone[start] | _inner(self._gone, start, end)
            edge = [gone if change.new else gone | {operation}]
            last = [self._gone[end]] if change.new else []
            self._gone[start : end + 1] = [*edge, *gaps, *last]
        self._lines = lines

    def of(self, new_start: int, new_end: int) -> list[int]:
        """Return the operations behind lines [new_start, new_end) of the current text, in order.

        Lines that were deleted and came back hide who deleted others: then all operations count.
        """
        found = frozenset[int]().union(*self._made[new_start:new_end], *self._gone[new_start : new_end + 1])
        return sorted(found or self._operations)


def _inner(gone: list[frozenset[int]], start: int, end: int) -> frozenset[int]:
    return frozenset[int]().union(*gone[start + 1 : end + 1]) if end > start else frozenset()
