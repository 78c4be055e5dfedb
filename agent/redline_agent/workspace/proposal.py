"""A proposal: a run's hunks and file operations against named texts, and how they follow the user's typing. Pure.

Positions are lines of the text that the editor (or the disk) has now: `FileReview.follow` moves them along with
whatever the user does, and says which hunks the user's own change overlapped. User text always wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from redline_agent.text import split_lines
from redline_agent.workspace.hunks import Change, Origin, changes
from redline_agent.workspace.textfile import TextFile, digest

State = Literal["pending", "applying", "accepted", "unconfirmed", "rejected", "conflicted", "stale", "undone"]
BATCHES_MAX = 50
"""Accepts of one file whose undo is still known exactly."""

ACCEPTED = "accepted: "
"""What stands before the check of a proof item that speaks of the accepted part alone."""

OPEN: frozenset[str] = frozenset({"pending", "undone"})
"""States in which a hunk may be accepted."""


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
    before_stale: State = "pending"


@dataclass(slots=True)
class FileOperation:
    """A file created, deleted or renamed; accepted by id like a hunk.

    `file` is the new file of a create, and what a delete or rename was proposed for.
    """

    id: str
    kind: Literal["create", "delete", "rename"]
    path: str
    reason: str
    origin: Origin
    new_path: str = ""
    file: TextFile | None = None
    depends_on: tuple[str, ...] = ()
    badge: str = ""
    state: State = "pending"


@dataclass(frozen=True, slots=True)
class ProofItem:
    """One thing that was checked on the overlay; `state` says how fresh, `ok` what came out (None: unknown)."""

    check: str
    state: Literal["current", "stale", "timed-out", "unavailable"]
    ok: bool | None
    detail: str
    path: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the item as the public surface shows it."""
        return {
            "check": self.check,
            "state": self.state,
            "ok": self.ok,
            "detail": self.detail,
            "path": self.path,
        }


@dataclass(slots=True)
class _Batch:
    """An accept that was sent: where its hunks lay before and after, to know its echo and its undo."""

    before: str
    after: str
    places_before: dict[str, tuple[int, int]]
    places_after: dict[str, tuple[int, int]]


@dataclass(slots=True)
class FileReview:
    """One file's hunks over its current text."""

    path: str
    file: TextFile
    hunks: list[Hunk]
    moved_on: bool = False
    """Whether somebody else has changed the file since the proposal was made."""
    _batches: list[_Batch] = field(default_factory=list["_Batch"])

    def result(self, taken: Iterable[str]) -> str:
        """Text with the hunks of these ids applied to the current text."""
        return self._composed({hunk.id: hunk.new for hunk in self.hunks if hunk.id in set(taken)})[0]

    def without(self, taken: Iterable[str]) -> str:
        """Text with accepted hunks of these ids taken back."""
        ids = set(taken)
        return self._composed({hunk.id: hunk.old for hunk in self.hunks if hunk.id in ids})[0]

    def sending(self, taken: Iterable[str]) -> str:
        """Mark hunks as applying, remember what their echo looks like, and return the text to expect."""
        moving = {hunk.id: hunk.new for hunk in self.hunks if hunk.id in set(taken)}
        for hunk in self.hunks:
            if hunk.id in moving:
                hunk.state = "applying"
        return self._expect(moving)

    def reverting(self, taken: Iterable[str]) -> str:
        """Remember what the text looks like with accepted hunks taken back, and return it."""
        return self._expect({hunk.id: hunk.old for hunk in self.hunks if hunk.id in set(taken)})

    def _expect(self, moving: dict[str, tuple[str, ...]]) -> str:
        """Text with the hunks' lines replaced, remembered with where each hunk then lies."""
        expected, after = self._composed(moving)
        places = {hunk.id: (hunk.start, hunk.end) for hunk in self.hunks}
        self._batches.append(_Batch(digest(self.file.text), digest(expected), places, after))
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
        """Put hunks that the editor did not apply back where they were."""
        for hunk in self.hunks:
            if hunk.id in set(taken) and hunk.state in ("applying", "unconfirmed"):
                hunk.state = "pending"
        if self._batches:
            self._batches.pop()

    def follow(self, text: str) -> bool:
        """Take over the file's new text; returns whether anything about the hunks changed."""
        if text == self.file.text:
            return False
        before = [(hunk.state, hunk.start, hunk.end) for hunk in self.hunks]
        old_lines, lines = split_lines(self.file.text), split_lines(text)
        self.file = self.file.with_text(text)
        if not self._known(digest(text)):
            self.moved_on = True
            self._map(changes(old_lines, lines), lines)
        self._restate(lines)
        return before != [(hunk.state, hunk.start, hunk.end) for hunk in self.hunks]

    def look(self) -> None:
        """Say of each hunk anew what its lines are."""
        self._restate(split_lines(self.file.text))

    def recognises(self, text: str) -> bool:
        """Whether a text is the echo, or the undo, of an accept."""
        version = digest(text)
        return any(version in (batch.before, batch.after) for batch in self._batches)

    def _known(self, version: str) -> bool:
        """Put the hunks where they exactly are when this text is the echo, or the undo, of an accept."""
        for batch in reversed(self._batches):
            for known, places in ((batch.after, batch.places_after), (batch.before, batch.places_before)):
                if known == version and all(hunk.id in places for hunk in self.hunks):
                    for hunk in self.hunks:
                        hunk.start, hunk.end = places[hunk.id]
                    return True
        return False

    def _map(self, edits: list[Change], lines: list[str]) -> None:
        for hunk in self.hunks:
            landed = _landed(hunk, edits) if hunk.state in ("applying", "unconfirmed") else None
            if landed is not None:
                hunk.start, hunk.end = landed
                continue
            start, end, touched = _mapped(hunk.start, hunk.end, edits)
            if touched:
                start, end = _repinned(hunk, start, end, lines)
            hunk.start, hunk.end = max(0, start), max(0, start, end)

    def _restate(self, lines: list[str]) -> None:
        taken = 0
        for hunk in sorted(self.hunks, key=lambda h: (h.start, h.end)):
            here = tuple(lines[hunk.start : hunk.end])
            whole = fits(hunk.new, hunk.start, hunk.end, lines)
            free = here == hunk.old and hunk.start >= taken and whole
            if hunk.state in ("pending", "conflicted"):
                taken = max(taken, hunk.end)
            match hunk.state:
                case "pending" if not free:
                    hunk.state = "conflicted"
                case "conflicted" if free:
                    hunk.state = "pending"
                case "applying" | "unconfirmed" | "undone" if here == hunk.new:
                    hunk.state = "accepted"
                case "accepted" if here == hunk.old:
                    hunk.state = "undone"
                case "undone" if here != hunk.old or not whole:
                    hunk.state = "conflicted"
                case _:
                    pass


def fits(new: tuple[str, ...], start: int, end: int, lines: list[str]) -> bool:
    """Whether `new` would stand as lines in place of [start, end): at the end of a file line ends may be missing."""
    glued_after = bool(new) and not new[-1].endswith(("\n", "\r")) and end < len(lines)
    glued_before = bool(new) and 0 < start <= len(lines) and not lines[start - 1].endswith(("\n", "\r"))
    return not glued_after and not glued_before


def _landed(hunk: Hunk, edits: list[Change]) -> tuple[int, int] | None:
    """Where an insertion that was sent came in, when its echo came together with other typing."""
    size = len(hunk.new)
    if hunk.start != hunk.end or not size:
        return None
    for edit in edits:
        if edit.start <= hunk.start <= edit.end:
            for offset in range(len(edit.new) - size + 1):
                if edit.new[offset : offset + size] == hunk.new:
                    return edit.new_start + offset, edit.new_start + offset + size
    return None


def _mapped(start: int, end: int, edits: list[Change]) -> tuple[int, int, bool]:
    """Where lines [start, end) are after the edits, and whether an edit touched them."""
    shift, touched = 0, False
    new_start, new_end = start, end
    for edit in edits:
        delta = len(edit.new) - (edit.end - edit.start)
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


def _repinned(hunk: Hunk, start: int, end: int, lines: list[str]) -> tuple[int, int]:
    """Find the hunk's own lines once inside the touched region; else return the region."""
    for wanted in (hunk.new, hunk.old) if hunk.state in ("applying", "unconfirmed") else (hunk.old, hunk.new):
        size = len(wanted)
        if not size:
            continue
        places = [at for at in range(start, max(start, end - size) + 1) if tuple(lines[at : at + size]) == wanted]
        if len(places) == 1:
            return places[0], places[0] + size
    return start, end


@dataclass(slots=True)
class Proposal:
    """Everything that one run proposes; `revision` grows with each change that a user could see."""

    run: str
    session: str
    instruction: str
    files: dict[str, FileReview]
    operations: list[FileOperation]
    proof: list[ProofItem]
    notes: list[str] = field(default_factory=list[str])
    revision: int = 1
    tokens: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """Accepts that a process began and did not end, by item."""
    claimed: set[str] = field(default_factory=set[str], repr=False)
    """Items whose accept waits for its turn."""

    @property
    def hunks(self) -> list[Hunk]:
        """All hunks, file by file."""
        return [hunk for review in self.files.values() for hunk in review.hunks]

    @property
    def items(self) -> list[Hunk | FileOperation]:
        """All that can be decided on."""
        return [*self.hunks, *self.operations]

    def state_of(self, item: Hunk | FileOperation) -> State:
        """Return an item's state as it is shown: what waits for its turn to be applied is `applying`."""
        return "applying" if item.id in self.claimed and item.state in OPEN else item.state

    @property
    def open(self) -> bool:
        """Whether anything still waits for the user."""
        return any(item.state in ("pending", "applying", "unconfirmed", "conflicted", "stale") for item in self.items)

    @property
    def state(self) -> str:
        """`pending`, or how it ended: `accepted`, `rejected`, `mixed`."""
        if self.open:
            return "pending"
        states = {item.state for item in self.items}
        return states.pop() if len(states) == 1 else "mixed"

    def renamed(self, op: FileOperation) -> None:
        """Take over an accepted rename: the file's hunks are from now on in the file of the new name."""
        review = self.files.pop(op.path, None)
        if review is not None:
            review.path = op.new_path
            for hunk in review.hunks:
                hunk.path = op.new_path
            self.files[op.new_path] = review

    def needs(self, ids: Iterable[str]) -> list[str]:
        """Items that these depend on, over any number of steps, that are neither among them nor accepted."""
        wanted = set(ids)
        by_id = {item.id: item for item in self.items}
        queue, seen = list(wanted), set(wanted)
        while queue:
            for need in by_id[queue.pop()].depends_on:
                if need in by_id and need not in seen and by_id[need].state != "accepted":
                    seen.add(need)
                    queue.append(need)
        return [item.id for item in self.items if item.id in seen - wanted]

    def proof_of(self, path: str) -> list[ProofItem]:
        """Return the items that speak of one file, or of the whole."""
        return [item for item in self.proof_now if item.path in ("", path)]

    @property
    def proof_now(self) -> list[ProofItem]:
        """The proof, with what was checked before somebody changed its file marked as stale."""
        moved = {review.path for review in self.files.values() if review.moved_on}
        return [
            replace(item, state="stale")
            if item.state == "current" and (item.path in moved or (moved and not item.path))
            and not item.check.startswith(ACCEPTED)
            else item
            for item in self.proof
        ]  # fmt: skip
