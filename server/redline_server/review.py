"""The pending proposals of this server, kept in step with the documents and the disk. Knows no LSP types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redline_agent.errors import RedlineError, ReviewError
from redline_agent.safety.paths import Resolver
from redline_agent.workspace.filereview import OPEN, FileReview, Hunk
from redline_agent.workspace.proposal import FileOperation, Proposal
from redline_agent.workspace.textfile import decode

from redline_server.documents import Document, Documents

ENTRIES_MAX = 50
OVERLAPS_SHOWN = 3
SHOWN = frozenset({"pending", "applying", "unconfirmed", "conflicted", "stale"})


@dataclass(slots=True)
class Entry:
    """One proposal over one folder; `disk` remembers what each unopened file looked like, `seen` how much of an open
    one's changes its hunks have followed, `ignored` which other files are of no interest.
    """

    proposal: Proposal
    resolver: Resolver
    disk: dict[str, tuple[int, int] | None] = field(default_factory=dict[str, "tuple[int, int] | None"])
    seen: dict[str, tuple[Document, int]] = field(default_factory=dict[str, "tuple[Document, int]"])
    ignored: set[str] = field(default_factory=set[str])

    @property
    def root(self) -> Path:
        """The workspace folder."""
        return self.resolver.root

    def path(self, relative: str) -> Path:
        """Return the real place of a path of the proposal."""
        return self.root / relative


@dataclass(frozen=True, slots=True)
class Place:
    """A hunk with all that it belongs to."""

    entry: Entry
    review: FileReview
    hunk: Hunk


class Reviews:
    """All proposals, newest last; the oldest decided ones are forgotten beyond ENTRIES_MAX."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.entries: dict[str, Entry] = {}

    def add(self, proposal: Proposal, resolver: Resolver) -> Entry:
        """Take a new proposal in."""
        entry = Entry(proposal, resolver)
        self.entries[proposal.run] = entry
        for run in list(self.entries):
            if len(self.entries) <= ENTRIES_MAX:
                break
            if not self.entries[run].proposal.open:
                del self.entries[run]
        return entry

    def get(self, run: str) -> Entry:
        """Return a proposal; raises ReviewError when there is none of that run."""
        entry = self.entries.get(run)
        if entry is None:
            raise ReviewError(f"There is no proposal of run {run!r}.", hint="redline.proposals lists them.")
        return entry

    def of(self, root: Path) -> list[Proposal]:
        """Return a folder's proposals."""
        return [entry.proposal for entry in self.entries.values() if entry.root == root]

    def rebase(self, entry: Entry) -> None:
        """Bring a proposal of before to what its files have become, open or not."""
        for review in entry.proposal.files.values():
            document = self._documents.at(entry.path(review.path))
            try:
                data = entry.resolver.read_bytes(review.path)
                text = document.text if document else decode(data, review.path).text if data is not None else None
            except RedlineError:
                text = None
            if text is not None:
                review.follow(text)

    def refresh(self, only: Path | None = None) -> list[Entry]:
        """Bring every file to the text that the editor, or the disk, has now; returns the entries that changed."""
        changed: list[Entry] = []
        for entry in self.entries.values():
            moved = [
                self._follow(entry, r) for r in entry.proposal.files.values() if only in (None, entry.path(r.path))
            ]
            if any(moved):
                entry.proposal.revision += 1
                changed.append(entry)
        return changed

    def elsewhere(self, path: Path) -> list[Entry]:
        """Take in that a file has changed; returns entries whose proof is stale by that, though it is not theirs."""
        changed: list[Entry] = []
        for entry in self.entries.values():
            proposal = entry.proposal
            if (proposal.around and proposal.around_since) or not path.is_relative_to(entry.root):
                continue
            within = path.relative_to(entry.root)
            name = within.as_posix()
            own = name in proposal.files or any(name in (op.path, op.new_path) for op in proposal.operations)
            if not own and not _ignored(entry, name) and proposal.changed_around():
                changed.append(entry)
        return changed

    def _follow(self, entry: Entry, review: FileReview) -> bool:
        document = self._documents.at(entry.path(review.path))
        if document is not None:
            entry.disk.pop(review.path, None)
            known, count = entry.seen.get(review.path, (None, 0))
            entry.seen[review.path] = (document, document.trail.count)
            steps = document.trail.since(count) if known is document else ()
            return _unstale(review) | review.follow(document.text, steps)
        seen = _signature(entry.path(review.path))
        if review.path in entry.disk and entry.disk[review.path] == seen:
            return False
        entry.disk[review.path] = seen
        try:
            data = entry.resolver.read_bytes(review.path)
            text = decode(data, review.path).text if data is not None else None
        except RedlineError:
            text = None
        if text == review.file.text:
            return _unstale(review)
        unsure = any(hunk.state == "unconfirmed" for hunk in review.hunks)  # then the text says what became of it
        if text is not None and (unsure or self._ours(entry.path(review.path), text) or not _waiting(review)):
            return _unstale(review) | review.follow(text)
        return _stale(review)

    def _ours(self, path: Path, text: str) -> bool:
        """Whether the text is what some accept of ours, of any proposal, made of the file."""
        return any(
            review.recognises(text)
            for entry in self.entries.values()
            for review in entry.proposal.files.values()
            if entry.path(review.path) == path
        )

    def hunks(self, path: Path) -> Iterator[Place]:
        """Each hunk of a file that is still shown."""
        for entry in self.entries.values():
            for review in entry.proposal.files.values():
                if entry.path(review.path) == path:
                    yield from (Place(entry, review, hunk) for hunk in review.hunks if hunk.state in SHOWN)

    def overlaps(self, entry: Entry) -> str:
        """Say which pending hunks of other proposals change the same lines, "" when none does."""
        said: list[str] = []
        for review in entry.proposal.files.values():
            for place in self.hunks(entry.path(review.path)):
                if place.entry is entry or place.hunk.state != "pending":
                    continue
                there = place.hunk
                said += [
                    f"{hunk.id} and {there.id} of {place.entry.proposal.run} in {review.path}"
                    for hunk in review.hunks
                    if hunk.state == "pending" and hunk.start <= there.end and there.start <= hunk.end
                ]
        mine = {
            path for op in entry.proposal.operations if op.state == "pending" for path in (op.path, op.new_path) if path
        }
        for other in self.entries.values():
            if other is entry or other.root != entry.root:
                continue
            theirs = [item for item in other.proposal.items if item.state == "pending"]
            said += [
                f"{item.path} is changed by {item.id} of {other.proposal.run} too"
                for item in theirs
                if item.path in mine or (isinstance(item, FileOperation) and item.path in entry.proposal.files)
            ]
        more = "; and more" if len(said) > OVERLAPS_SHOWN else ""
        return "; ".join(said[:OVERLAPS_SHOWN]) + more

    def paths(self) -> set[Path]:
        """Every file that some proposal has hunks in."""
        return {entry.path(review.path) for entry in self.entries.values() for review in entry.proposal.files.values()}

    def select(
        self, run: str, wanted: list[str] | str, revision: int | None, *, to_accept: bool
    ) -> list[Hunk | FileOperation]:
        """Return the items that a decision is for, checked; raises ReviewError with what is wrong."""
        self.refresh()
        entry = self.get(run)
        proposal = entry.proposal
        if revision is not None and revision != proposal.revision:
            raise ReviewError(
                f"The proposal has moved on (revision {proposal.revision}, not {revision}).",
                hint="Look at it again.",
            )
        if isinstance(wanted, str):
            if to_accept:
                return [item for item in proposal.items if proposal.state_of(item) == "pending" and not item.badge]
            return [item for item in proposal.items if proposal.state_of(item) in (SHOWN | OPEN) - {"applying"}]
        by_id = {item.id: item for item in proposal.items}
        for ident in wanted:
            if ident not in by_id:
                raise ReviewError(f"The proposal of {run} has no hunk {ident!r}.")
            if to_accept:
                _once_more(proposal, by_id[ident])
            _check_state(proposal.state_of(by_id[ident]), ident, to_accept=to_accept)
        return [by_id[ident] for ident in dict.fromkeys(wanted)]


_WHY = {
    "conflicted": "you changed the same text since; user text wins",
    "stale": "its file changed outside the editor; open the file, and the hunk follows",
    "accepted": "it was accepted already",
    "rejected": "it was rejected already",
    "applying": "it is being applied",
    "unconfirmed": "it was sent to the editor, which has not confirmed it",
}


def _once_more(proposal: Proposal, item: Hunk | FileOperation) -> None:
    """Let what was sent and never seen to come be sent again; should it come yet, it is known."""
    if item.state == "unconfirmed" and isinstance(item, Hunk):
        proposal.files[item.path].not_applied([item.id])
    elif item.state == "unconfirmed":
        item.state = "pending"


def _check_state(state: str, ident: str, *, to_accept: bool) -> None:
    allowed = OPEN if to_accept else SHOWN | OPEN
    if state not in allowed or (not to_accept and state == "applying"):
        verb = "accepted" if to_accept else "rejected"
        raise ReviewError(f"{ident} cannot be {verb}: {_WHY.get(state, state)}.")


def _ignored(entry: Entry, name: str) -> bool:
    """Whether a file is ignored; that is remembered, since somebody may be typing in it."""
    from redline_agent.workspace.overlay import Overlay  # the rules of .gitignore, which nothing else here needs

    if name not in entry.ignored and Overlay(entry.resolver).ignores(name):
        entry.ignored.add(name)
    return name in entry.ignored


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _waiting(review: FileReview) -> bool:
    return any(hunk.state in OPEN | {"stale"} for hunk in review.hunks)


def _stale(review: FileReview) -> bool:
    changed = False
    for hunk in review.hunks:
        if hunk.state in OPEN:
            hunk.before, hunk.state = hunk.state, "stale"
            changed = True
    return changed


def _unstale(review: FileReview) -> bool:
    changed = False
    for hunk in review.hunks:
        if hunk.state == "stale":
            hunk.state = hunk.before
            changed = True
    return changed
