"""One file's hunks over its current text, and how they follow what the user does to it. Pure.

Positions are lines of the text that the editor (or the disk) has now: `FileReview.follow` moves them along with
whatever the user does, and says which hunks the user's own change overlapped. User text always wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from redline_agent.text import split_lines
from redline_agent.workspace.hunks import Change, Origin, changes
from redline_agent.workspace.mapping import Step, applied, beside, found_again, mapped, may_slide
from redline_agent.workspace.textfile import TextFile, digest, line_ends, to_line_end

State = Literal["pending", "applying", "accepted", "unconfirmed", "rejected", "conflicted", "stale", "undone"]
BATCHES_MAX = 50
"""Accepts of one file whose undo is still known exactly."""

OPEN: frozenset[str] = frozenset({"pending", "undone"})
"""States in which a hunk may be accepted."""
_SENT = frozenset({"applying", "unconfirmed"})


@dataclass(slots=True)
class Hunk:
    """Lines [start, end) of the file's current text; `old` and `new` are its lines with their ends."""

    id: str
    path: str
    start: int
    end: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    reason: str
    origin: Origin
    depends_on: tuple[str, ...] = ()
    badge: str = ""
    state: State = "pending"
    before: State = "pending"
    """What it is again when its file is no longer stale, or the editor did not apply it."""
    adrift: tuple[str, str] | None = None
    """The lines around its place, when the user has torn that apart; it is conflicted until they are there again."""
    home: tuple[str, str] | None = None
    """The lines around its place when it was proposed."""


@dataclass(slots=True)
class _Batch:
    """An accept that was sent: where its hunks lay before and after, to know its echo and its undo."""

    before: str
    after: str
    places_before: dict[str, tuple[int, int]]
    places_after: dict[str, tuple[int, int]]
    adrift: dict[str, tuple[str, str] | None]
    sent: frozenset[str]


@dataclass(slots=True)
class FileReview:
    """One file's hunks over its current text."""

    path: str
    file: TextFile
    hunks: list[Hunk]
    moved_on: bool = False
    """Whether somebody else has changed the file since the proposal was made."""
    moved_since: bool = False
    """The same, since what was accepted of it was proven."""
    _batches: list[_Batch] = field(default_factory=list["_Batch"])
    _refused: set[str] = field(default_factory=set[str])

    def result(self, taken: Iterable[str]) -> str:
        """Text with the hunks of these ids applied to the current text."""
        return self.composed(taken)[0]

    def composed(self, taken: Iterable[str]) -> tuple[str, dict[str, tuple[int, int]]]:
        """The same, with the lines of each hunk in that text."""
        ids = set(taken)
        return self._composed({hunk.id: hunk.new for hunk in self.hunks if hunk.id in ids})

    def without(self, taken: Iterable[str]) -> str:
        """Text with accepted hunks of these ids taken back."""
        ids = set(taken)
        return self._composed({hunk.id: hunk.old for hunk in self.hunks if hunk.id in ids})[0]

    def sending(self, taken: Iterable[str]) -> str:
        """Mark hunks as applying, remember what their echo looks like, and return the text to expect."""
        moving = {hunk.id: hunk.new for hunk in self.hunks if hunk.id in set(taken)}
        for hunk in self.hunks:
            if hunk.id in moving:
                hunk.before, hunk.state = hunk.state, "applying"
                self._refused.discard(hunk.id)
        return self._expect(moving, frozenset(moving))

    def keep_last_end(self, taken: Iterable[str]) -> None:
        """Have hunks at the end of the file leave its last line's end, or the want of one, as it is: for an editor in
        which that is no matter of edits.
        """
        lines = split_lines(self.file.text)
        ended = not lines or lines[-1].endswith(("\n", "\r"))
        for hunk in self.hunks:
            if hunk.id not in set(taken) or hunk.end != len(lines) or not hunk.new:
                continue
            last = hunk.new[-1].rstrip("\r\n")
            if ended and last == hunk.new[-1]:
                last += next(iter(sorted(line_ends(self.file.text))), "\n")
            elif ended:
                continue
            hunk.new = (*hunk.new[:-1], last)

    def reverting(self, taken: Iterable[str]) -> str:
        """Remember what the text looks like with accepted hunks taken back, and return it."""
        return self._expect({hunk.id: hunk.old for hunk in self.hunks if hunk.id in set(taken)})

    def _expect(self, moving: dict[str, tuple[str, ...]], sent: frozenset[str] = frozenset()) -> str:
        """Text with the hunks' lines replaced, remembered with where each hunk then lies."""
        expected, after = self._composed(moving)
        places = {hunk.id: (hunk.start, hunk.end) for hunk in self.hunks}
        adrift = {hunk.id: hunk.adrift for hunk in self.hunks}
        known = _version(self.file.text), _version(expected)
        self._batches.append(_Batch(*known, places, after, adrift, sent))
        del self._batches[:-BATCHES_MAX]
        return expected

    def _composed(self, moving: dict[str, tuple[str, ...]]) -> tuple[str, dict[str, tuple[int, int]]]:
        """Text with some hunks' lines replaced by others, and where each hunk then lies."""
        lines = split_lines(self.file.text)
        after: dict[str, tuple[int, int]] = {}
        shift = at = 0
        out: list[str] = []
        for hunk in sorted(self.hunks, key=lambda h: (h.start, h.end)):
            size = hunk.end - hunk.start
            if hunk.id in moving:
                out += lines[at : hunk.start]
                out += moving[hunk.id]
                at, size = hunk.end, len(moving[hunk.id])
            after[hunk.id] = (hunk.start + shift, hunk.start + shift + size)
            shift += size - (hunk.end - hunk.start)
        return "".join(out + lines[at:]), after

    def not_applied(self, taken: Iterable[str]) -> None:
        """Put hunks that the editor did not apply back where they were; should their echo come yet, it is known."""
        for hunk in self.hunks:
            if hunk.id in set(taken) and hunk.state in _SENT:
                hunk.state = hunk.before
                self._refused.add(hunk.id)

    def follow(self, text: str, steps: Sequence[Step] = ()) -> bool:
        """Take over the file's new text; returns whether anything about the hunks changed.

        `steps` are how the text became what it is, where that is known: of several equal lines they say which is which.
        """
        if text == self.file.text:
            return False
        before = [(hunk.state, hunk.start, hunk.end) for hunk in self.hunks], self.moved_on, self.moved_since
        self._take_line_ends(text)
        old_lines, lines = split_lines(self.file.text), split_lines(text)
        self.file = self.file.with_text(text)
        for hunk in self.hunks:
            hunk.home = hunk.home or beside(old_lines, hunk.start, hunk.end)
        known = self._known(_version(text))
        if known:
            self._take_places(*known)
        else:
            if applied(old_lines, steps) != lines:
                steps = [Step(tuple(changes(old_lines, lines)), exact=False)]
            for step in steps:
                now = applied(old_lines, [step])
                self._map(step, old_lines, now)
                old_lines = now
        if known is None:
            self.moved_on = self.moved_since = True
        self._restate(lines)
        after = [(hunk.state, hunk.start, hunk.end) for hunk in self.hunks], self.moved_on, self.moved_since
        return before != after

    def look(self) -> None:
        """Say of each hunk anew what its lines are."""
        self._restate(split_lines(self.file.text))

    def recognises(self, text: str) -> bool:
        """Whether a text is the echo, or the undo, of an accept."""
        version = _version(text)
        return any(version in (batch.before, batch.after) for batch in self._batches)

    def _take_line_ends(self, text: str) -> None:
        """Where the whole file has come to other line ends (a checkout that converts them), have the hunks so too."""
        ends = {mine: line_ends(mine) for mine in (self.file.text, text)}
        if len(ends[text]) != 1 or len(ends[self.file.text]) != 1 or ends[text] == ends[self.file.text]:
            return
        (end,) = ends[text]
        self.file = self.file.with_text(to_line_end(self.file.text, end))
        for hunk in self.hunks:
            hunk.old = tuple(to_line_end(line, end) for line in hunk.old)
            hunk.new = tuple(to_line_end(line, end) for line in hunk.new)
            hunk.home = hunk.adrift = None

    def _known(self, version: str) -> tuple[_Batch, bool] | None:
        """Return the latest accept whose text this is, and whether it is the one after it (an echo), not before it."""
        for batch in reversed(self._batches):
            for after in (True, False):
                places = batch.places_after if after else batch.places_before
                if (batch.after if after else batch.before) == version and all(h.id in places for h in self.hunks):
                    return batch, after
        return None

    def _take_places(self, batch: _Batch, after: bool) -> None:
        """Put the hunks where they exactly are after an accept, or before it."""
        for hunk in self.hunks:
            hunk.start, hunk.end = (batch.places_after if after else batch.places_before)[hunk.id]
            hunk.adrift = batch.adrift[hunk.id]
            if after and hunk.id in batch.sent and hunk.id in self._refused:
                hunk.state = "unconfirmed"  # the editor said no, and did it after all
                self._refused.discard(hunk.id)

    def _map(self, step: Step, before: list[str], lines: list[str]) -> None:
        """Move the hunks along with one step, from the lines before it to those after it."""
        was: dict[str, tuple[int, int]] = {}
        behind: list[Change] = []
        for hunk in reversed(self.hunks):
            found = _landed(hunk, step.changes, hunk.id in self._refused) if hunk.adrift is None else None
            if found is not None:
                edit, hunk.start, hunk.end = found
                behind.append(edit)
                hunk.state = "undone" if hunk.state == "accepted" else "accepted"
                self._refused.discard(hunk.id)
                continue
            start, end, touched = mapped(hunk.start, hunk.end, step.changes, hunk.home, behind)
            if touched:
                if not step.exact or not _inside(hunk, step.changes):
                    start, end = _repinned(hunk, start, end, lines)
                torn = _torn(hunk, tuple(lines[start:end]), step)
                hunk.adrift = (hunk.adrift or beside(before, hunk.start, hunk.end)) if torn else None
            elif not step.exact and may_slide(before, hunk.start, hunk.end, step.changes):
                hunk.adrift = hunk.adrift or beside(before, hunk.start, hunk.end)
            was[hunk.id] = (hunk.start, hunk.end)
            hunk.start, hunk.end = max(0, start), max(0, start, end)
        for hunk in self.hunks:
            if hunk.adrift is not None and hunk.id in was:
                wanted = hunk.new if hunk.state in _SENT | {"accepted"} else hunk.old
                again = found_again(lines, wanted, hunk.adrift, was[hunk.id], step.changes)
                if again is not None and not self._taken(*again, hunk):
                    (hunk.start, hunk.end), hunk.adrift = again, None

    def _taken(self, start: int, end: int, but: Hunk) -> bool:
        """Whether another hunk has some of these lines."""
        return any(each is not but and each.start < end and start < each.end for each in self.hunks)

    def _restate(self, lines: list[str]) -> None:
        taken = 0
        for hunk in sorted(self.hunks, key=lambda h: (h.start, h.end)):
            here = tuple(lines[hunk.start : hunk.end])
            whole = fits(hunk.new, hunk.start, hunk.end, lines)
            free = here == hunk.old and hunk.start >= taken and whole and hunk.adrift is None
            if hunk.state in ("pending", "conflicted"):
                taken = max(taken, hunk.end)
            match hunk.state:
                case "pending" if not free:
                    hunk.state = "conflicted"
                case "conflicted" if free:
                    hunk.state = "pending"
                case "applying" | "unconfirmed" | "undone" if here == hunk.new and hunk.adrift is None:
                    hunk.state = "accepted"
                case "accepted" if here == hunk.old and hunk.adrift is None:
                    hunk.state = "undone"
                case "undone" if not free:
                    hunk.state = "conflicted"
                case _:
                    pass


def _version(text: str) -> str:
    """A text's version whatever its line ends are: an editor may have others than the disk."""
    return digest(to_line_end(text, "\n"))


def fits(new: tuple[str, ...], start: int, end: int, lines: list[str]) -> bool:
    """Whether `new` would stand as lines in place of [start, end): at the end of a file line ends may be missing."""
    glued_after = bool(new) and not new[-1].endswith(("\n", "\r")) and end < len(lines)
    glued_before = bool(new) and 0 < start <= len(lines) and not lines[start - 1].endswith(("\n", "\r"))
    return not glued_after and not glued_before


def _landed(hunk: Hunk, edits: Sequence[Change], refused: bool) -> tuple[Change, int, int] | None:
    """The edit by which the other lines of a hunk came in, or its own went, and where they are: of a hunk that was sent
    (it may come with other typing), or whose accept is undone or done again.
    """
    sent = refused or hunk.state in _SENT
    if not sent and hunk.state not in ("accepted", "undone"):
        return None
    wanted = hunk.old if hunk.state == "accepted" else hunk.new
    for edit in edits:
        if (edit.start, edit.end) == (hunk.start, hunk.end) and edit.new == wanted:
            return edit, edit.new_start, edit.new_start + len(wanted)
        if sent and wanted and hunk.start == hunk.end and edit.start <= hunk.start <= edit.end:
            for at in range(len(edit.new) - len(wanted) + 1):
                if edit.new[at : at + len(wanted)] == wanted:
                    return edit, edit.new_start + at, edit.new_start + at + len(wanted)
    return None


def _inside(hunk: Hunk, edits: Sequence[Change]) -> bool:
    """Whether the edits that touch a hunk are within its lines."""
    return all(hunk.start <= edit.start and edit.end <= hunk.end for edit in edits
               if edit.start < hunk.end and hunk.start < edit.end)  # fmt: skip


def _torn(hunk: Hunk, here: tuple[str, ...], step: Step) -> bool:
    """Whether what stands at a touched hunk's place is neither its old lines nor its new ones.

    No lines are neither, but for a deletion that was sent and came, it may be, with other typing.
    """
    if here:
        return here not in (hunk.old, hunk.new)
    return bool(hunk.new) or hunk.state not in _SENT or step.exact


def _repinned(hunk: Hunk, start: int, end: int, lines: list[str]) -> tuple[int, int]:
    """Find the hunk's own lines once inside the touched region; else return the region."""
    for wanted in (hunk.new, hunk.old) if hunk.state in _SENT else (hunk.old, hunk.new):
        size = len(wanted)
        if not size:
            continue
        places = [at for at in range(start, end - size + 1) if tuple(lines[at : at + size]) == wanted]
        if len(places) == 1:
            return places[0], places[0] + size
    return start, end
