"""Where an edit goes: the text to replace must be in the file exactly once, or the edit is refused. Pure.

Four ways to match, in order, each used only where it gives one place: exact, trailing white space,
uniform re-indentation, Unicode punctuation. Fuzzy likeness never applies an edit; it only shows the
nearest lines in the refusal.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redline_agent.errors import EditRefused
from redline_agent.workspace.hunks import changes
from redline_agent.workspace.textfile import line_end, to_line_end

_PUNCTUATION = str.maketrans(
    "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u2032\u2033\u2010\u2011\u2012\u2013\u2014\u2212\u00a0\u2009\u202f",
    "''''\"\"\"'\"------   ",
)
_NEAREST_LINES_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Edited:
    """Result of an edit: the whole new text and how its place was found."""

    text: str
    how: str


@dataclass(frozen=True, slots=True)
class _Place:
    start: int  # offsets into the text with \n line ends
    end: int
    new: str


def replace(text: str, old: str, new: str, *, whole_lines: bool = False) -> Edited:
    r"""Return `text` with its one occurrence of `old` replaced by `new`.

    Line ends of `old` and `new` may be \n whatever the file has; what is inserted gets the file's own.
    `whole_lines`: `old` is lines, so a part of one is no match. Raises EditRefused when `old` is empty, missing or not
    unique, or when nothing would change.
    """
    if not old:
        raise EditRefused("`old` is empty.", hint="Quote the text to replace, or use `write` for a new file.")
    end = line_end(text)
    flat, old, new = to_line_end(text, "\n"), to_line_end(old, "\n"), to_line_end(new, "\n")
    if old == new:
        raise EditRefused("`old` and `new` are the same, so nothing would change.")
    for how, find in _BY_LINES if whole_lines else _WAYS:
        places = list(find(flat, old, new))
        if len(places) == 1:
            return Edited(_spliced(text, flat, places[0], end), how)
        if places:
            raise EditRefused(_not_unique(flat, places), hint="Quote more lines around it.")
    raise EditRefused(f"The text to replace is not in the file. {_nearest(flat, old)}".rstrip())


def _spliced(text: str, flat: str, place: _Place, end: str) -> str:
    if len(text) == len(flat):
        return text[: place.start] + place.new + text[place.end :]
    start, stop = _raw_offset(text, flat, place.start), _raw_offset(text, flat, place.end)
    return text[:start] + to_line_end(place.new, end) + text[stop:]


def _raw_offset(text: str, flat: str, offset: int) -> int:
    r"""Offset into `text` (with \r\n) of an offset into `flat` (with \n)."""
    raw, at = 0, 0
    while at < offset:
        step = flat.find("\n", at, offset)
        if step < 0:
            return raw + (offset - at)
        raw += step - at
        raw += 2 if text.startswith("\r\n", raw) else 1
        at = step + 1
    return raw


def _exact(flat: str, old: str, new: str) -> Iterator[_Place]:
    at = flat.find(old)
    while at >= 0:
        yield _Place(at, at + len(old), new)
        at = flat.find(old, at + 1)


def _windows(flat: str, old: str) -> Iterator[tuple[int, int, list[str], list[str]]]:
    """Each run of whole lines of `flat` as long as `old`: offsets, its lines, `old`'s lines."""
    wanted = old.removesuffix("\n").split("\n")
    lines = flat.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for at in range(len(lines) - len(wanted) + 1):
        last = at + len(wanted)
        end = starts[last] if old.endswith("\n") and last < len(lines) else starts[last] - 1
        yield starts[at], end, lines[at:last], wanted


def _by_line(key: Callable[[str], str]) -> Callable[[str, str, str], Iterator[_Place]]:
    def find(flat: str, old: str, new: str) -> Iterator[_Place]:
        keyed = [key(line) for line in old.removesuffix("\n").split("\n")]
        for start, end, lines, _ in _windows(flat, old):
            if key(lines[0]) == keyed[0] and [key(line) for line in lines] == keyed:
                yield _Place(start, end, _in_their_words(lines, old, new, key))

    return find


def _in_their_words(lines: list[str], old: str, new: str, key: Callable[[str], str]) -> str:
    """Return `new` with the lines that it keeps of `old` as the file has them, and the others without what `key` takes
    off, where the file has none of that.
    """
    was, now = old.removesuffix("\n").split("\n"), new.removesuffix("\n").split("\n")
    tidy = all(line == key(line) for line in lines)
    out: list[str] = []
    at = 0
    for change in changes(was, now):
        out += [*lines[at : change.start], *(key(line) if tidy else line for line in change.new)]
        at = change.end
    text = "\n".join([*out, *lines[at:]])
    return text + "\n" if new.endswith("\n") else text


def _reindented(flat: str, old: str, new: str) -> Iterator[_Place]:
    for start, end, lines, wanted in _windows(flat, old):
        shift = _shift(lines, wanted)
        moved = _moved(new, *shift) if shift else None
        if moved is not None:
            yield _Place(start, end, moved)


def _shift(lines: list[str], wanted: list[str]) -> tuple[str, str] | None:
    """Return the indentation to take off and to put on when the two differ by that alone on every line."""
    shift: tuple[str, str] | None = None
    for line, want in zip(lines, wanted, strict=True):
        if line.strip() != want.strip():
            return None
        if not want.strip():
            continue
        have, wish = line[: len(line) - len(line.lstrip())], want[: len(want) - len(want.lstrip())]
        common = 0
        while common < min(len(have), len(wish)) and have[-1 - common] == wish[-1 - common]:
            common += 1
        here = (wish[: len(wish) - common], have[: len(have) - common])
        if shift is None:
            shift = here
        elif not _same_shift(shift, have, wish):
            return None
    return shift


def _same_shift(shift: tuple[str, str], have: str, wish: str) -> bool:
    off, on = shift
    return wish.startswith(off) and have == on + wish[len(off) :]


def _moved(new: str, off: str, on: str) -> str | None:
    out: list[str] = []
    for line in new.split("\n"):
        if not line.strip():
            out.append(line)
        elif line.startswith(off) and (rest := _same_kind(line[len(off) :], off, on)) is not None:
            out.append(on + rest)
        else:
            return None
    return "\n".join(out)


def _same_kind(rest: str, off: str, on: str) -> str | None:
    """The rest of a line whose indentation went from tabs to spaces, or back, with what is left of it in that kind too;
    None where that cannot be told.
    """
    tabs, spaces = ("\t", " ") if set(off) == {"\t"} and set(on) == {" "} else (" ", "\t")
    if set(off) != {tabs} or set(on) != {spaces}:
        return rest
    words = rest.lstrip(" \t")
    lead = rest[: len(rest) - len(words)]
    if set(lead) - {tabs} or (len(lead) * len(on)) % len(off):
        return None
    return spaces * (len(lead) * len(on) // len(off)) + words


def _punctuation(flat: str, old: str, new: str) -> Iterator[_Place]:
    for place in _exact(flat.translate(_PUNCTUATION), old.translate(_PUNCTUATION), new):
        there = flat[place.start : place.end]
        plain = there == there.translate(_PUNCTUATION)  # then what is to come is meant plain as well
        yield _Place(place.start, place.end, new.translate(_PUNCTUATION)) if plain else place


_WAYS: tuple[tuple[str, Callable[[str, str, str], Iterator[_Place]]], ...] = (
    ("exact", _exact),
    ("trailing white space", _by_line(str.rstrip)),
    ("re-indented", _reindented),
    ("punctuation", _punctuation),
)


_BY_LINES = _WAYS[1:3]
"""Those that match whole lines; equal lines match by the first."""


def _not_unique(flat: str, places: list[_Place]) -> str:
    lines = [flat.count("\n", 0, place.start) + 1 for place in places[:6]]
    more = " and more" if len(places) > 6 else ""
    return f"The text to replace is there {len(places)} times: lines {', '.join(map(str, lines))}{more}."


def _nearest(flat: str, old: str) -> str:
    lines = flat.split("\n")[:_NEAREST_LINES_MAX]
    first = next((line for line in old.split("\n") if line.strip()), "")
    close = difflib.get_close_matches(first, lines, n=1, cutoff=0.6)
    if not close:
        return ""
    at = lines.index(close[0])
    shown = "\n".join(f"{at + i + 1}\t{line}" for i, line in enumerate(lines[at : at + 3]))
    return f"The nearest lines are:\n{shown}"
