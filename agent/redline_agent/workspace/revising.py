"""A hunk or file operation sent back with a word: what the agent begins with, and how what it makes takes its place.

The run goes on from the whole proposal, so that the change is seen, and proven again, beside all that belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from redline_agent.errors import ReviewError
from redline_agent.safety.keeper import Keeper
from redline_agent.text import split_lines
from redline_agent.workspace.aftermath import as_it_went
from redline_agent.workspace.dependencies import link
from redline_agent.workspace.filereview import Hunk
from redline_agent.workspace.laying import Laying, Lines, without_directive
from redline_agent.workspace.mapping import beside
from redline_agent.workspace.meeting import brought_up_to_date
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import ACCEPTED, FileOperation, Proposal
from redline_agent.workspace.stored import dump, load

Item = Hunk | FileOperation
Outcome = Literal["revised", "withdrawn", "same"]
AGAIN = frozenset({"pending", "conflicted", "stale", "rejected", "undone"})
"""States in which an item can be sent back."""
_OPEN = AGAIN - {"rejected"}
REVISES = "revises "
"""How the key of a run begins whose proposal goes into another one's."""


@dataclass(slots=True)
class Revision:
    """An item of a proposal, and the user's word on it; `directive` is the comment line that the word was typed in.

    `laid` are the items that the run began with.
    """

    proposal: Proposal
    item: str
    text: str
    directive: str = ""
    laid: frozenset[str] = field(default_factory=frozenset[str])
    was: str = ""
    """The item's state when the run began: one that was rejected then can be sent back, one that is since cannot."""

    @property
    def key(self) -> str:
        """What the run's start says of it in the journal; `named` reads it."""
        return f"{REVISES}{self.item} of {self.proposal.run}"

    @property
    def found(self) -> Item:
        """The item; raises ReviewError when it is not there, or decided on."""
        for item in self.proposal.items:
            if item.id == self.item:
                since = item.state == "rejected" and self.was not in ("", "rejected")
                if item.state not in AGAIN or item.id in self.proposal.claimed or since:
                    raise ReviewError(f"{item.id} is {item.state}, so it cannot be revised.")
                return item
        raise ReviewError(f"The proposal of {self.proposal.run} has no hunk {self.item!r}.")

    @property
    def about(self) -> str:
        """What the user's word is about, for the agent, in Redline's own words."""
        item = self.found
        if isinstance(item, Hunk):
            what, how = f"{item.id} in {item.path}", "shown below as you proposed it"
            if item.state == "conflicted":
                how = "which is not in the file, since the user changed the same lines; it is shown below"
        else:
            what = f"{item.id}: {item.told}"
            how = "which is not done in the files now" if item.kind == "delete" else "as it is in the files now"
        return (
            f"The user's words are about one change of your proposal ({what}), {how}. What else of the proposal is open"
            " is in the files already. Revise this change, and leave the others unless the words ask for more."
        )

    @property
    def history(self) -> str:
        """What the user made of the lines since: what was there, what was proposed, what is there now."""
        item = self.found
        if not isinstance(item, Hunk) or item.state != "conflicted":
            return ""
        return as_it_went(item, self.proposal.files[item.path])

    def lay(self, overlay: Overlay, keeper: Keeper) -> tuple[str, Lines | None]:
        """Lay all that is open into a new overlay, as far as it still fits; returns where the item is then.

        That is a path, and lines where it is a hunk.
        """
        subject = self.found
        self.was = subject.state
        if self.directive:
            self._remove_directive(overlay, keeper, subject.path)
        now = load(dump(self.proposal))
        for item in now.items:
            if item.id in self.proposal.claimed:
                item.state = "rejected"  # it is on its way into the files
            elif item.id == self.item and item.state in ("rejected", "undone"):
                item.state = "pending"
        _bring_up(now, overlay)
        but = [subject.id] if isinstance(subject, FileOperation) and subject.kind == "delete" else []
        laying = Laying(now, overlay, keeper, but)
        laying.all(last=self.item)
        self.laid = frozenset(laying.laid)
        moved = {op.path: op.new_path for op in now.operations if op.id in laying.laid and op.kind == "rename"}
        at = laying.lines.get(self.item)
        if at is None and isinstance(subject, Hunk):
            review = now.files[subject.path]
            start, end = next((hunk.start, hunk.end) for hunk in review.hunks if hunk.id == self.item)
            at = start + 1, max(start + 1, end)
        return moved.get(subject.path, subject.path), at

    def _remove_directive(self, overlay: Overlay, keeper: Keeper, path: str) -> None:
        seen = overlay.find(path)
        lines = split_lines(seen.file.text) if seen else []
        if lines.count(self.directive) == 1:
            without_directive(overlay, keeper, path, lines.index(self.directive), self.text)


def named(key: str) -> tuple[str, str]:
    """Return the item and the run that a revision's key names; ("", "") for another one."""
    item, _, run = key.removeprefix(REVISES).partition(" of ") if key.startswith(REVISES) else ("", "", "")
    return item, run


def _bring_up(proposal: Proposal, overlay: Overlay) -> None:
    """Have the proposal follow its files as they are, and then the overlay, from which the directive is gone."""
    brought_up_to_date([proposal], overlay, every=True)
    for path, review in proposal.files.items():
        seen = overlay.find(path) if path in overlay.touched else None
        if seen is not None:
            review.follow(seen.file.text)


def merge(revision: Revision, made: Proposal) -> Outcome:
    """Let what a run made of the whole proposal take the place of what it began with; decided items stay.

    Items that came out as they were keep their ids. Raises ReviewError when the item was decided on meanwhile.
    """
    proposal, subject = revision.proposal, revision.found
    _meet(proposal, made)
    _part(revision, made)
    began = [item for item in proposal.items if item.id == subject.id or item.id in revision.laid]
    pairs = _pairs(began, made)
    kept = {old.id for old, _ in pairs}
    new = [item for item in made.items if all(item is not twin for _, twin in pairs)]
    gone = [item for item in began if item.id not in kept and (item is subject or _is_open(proposal, item))]
    if not new and not any(item.id in revision.laid for item in gone):
        return "same"
    names = _names(proposal, subject.id, new) | {twin.id: old.id for old, twin in pairs}
    _replace(proposal, made, gone, new, names)
    for item in began:
        if item.id == subject.id and item.id in kept:
            item.state = "pending"
    proposal.proof = [item for item in proposal.proof if item.check.startswith(ACCEPTED)] + made.proof
    proposal.around = False
    proposal.notes = [*proposal.notes, *(note for note in made.notes if note not in proposal.notes)]
    proposal.revision += 1
    return "revised" if new else "withdrawn"


def apart(revision: Revision, made: Proposal) -> None:
    """Leave in what a run made only what is not the proposal's that it went on from: it is one of its own then."""
    _meet(revision.proposal, made)
    twins = {twin.id for _, twin in _pairs([i for i in revision.proposal.items if i.id in revision.laid], made)}
    for path in list(made.files):
        made.files[path].hunks = [hunk for hunk in made.files[path].hunks if hunk.id not in twins]
        if not made.files[path].hunks:
            del made.files[path]
    made.operations = [op for op in made.operations if op.id not in twins]
    left = {item.id for item in made.items}
    for item in made.items:
        item.depends_on = tuple(each for each in item.depends_on if each in left)


def _is_open(proposal: Proposal, item: Item) -> bool:
    return item.state in _OPEN and item.id not in proposal.claimed


def _meet(proposal: Proposal, made: Proposal) -> None:
    """Bring both to the same texts and names, and take out of `made` what is in the files already."""
    done = {_content(op) for op in proposal.operations if op.state == "accepted"}
    for op in list(made.operations):
        if _content(op) in done:
            made.operations.remove(op)
            if op.kind == "rename":
                made.renamed(op)
    for path, new in made.files.items():
        here = proposal.files.get(path)
        if here is None:
            continue
        if any(hunk.state == "stale" for hunk in here.hunks):
            for hunk in here.hunks:
                hunk.state = hunk.before if hunk.state == "stale" else hunk.state
            here.follow(new.file.text)
        else:
            new.follow(here.file.text)
        there = split_lines(new.file.text)
        in_place = [hunk for hunk in new.hunks if hunk.state == "conflicted" and _there(hunk, there)]
        new.hunks = [hunk for hunk in new.hunks if hunk not in in_place]


def _part(revision: Revision, made: Proposal) -> None:
    """A hunk that has grown around one that is accepted by now holds that one's lines: it is a conflict."""
    for path, new in made.files.items():
        here = revision.proposal.files.get(path)
        lines = split_lines(new.file.text)
        taken = [hunk for hunk in here.hunks if hunk.state == "accepted" and hunk.id in revision.laid] if here else []
        for hunk in new.hunks:
            met = [each for each in taken if each.start <= hunk.end and hunk.start <= each.end]
            if any(each.new != hunk.new and _words(each) & _words(hunk) for each in met):
                hunk.adrift = hunk.adrift or beside(lines, hunk.start, hunk.end)
        new.look()


def _words(hunk: Hunk) -> set[str]:
    return {line.strip() for line in hunk.new} - {""}


def _there(hunk: Hunk, lines: list[str]) -> bool:
    return bool(hunk.new) and tuple(lines[hunk.start : hunk.start + len(hunk.new)]) == hunk.new


def _pairs(began: Iterable[Item], made: Proposal) -> list[tuple[Item, Item]]:
    """Items that came out as they were and where they were, with their twins of the new proposal."""
    by_content = {_content(item): item for item in made.items}
    return [(old, by_content[_content(old)]) for old in began if _content(old) in by_content]


def _content(item: Item) -> tuple[object, ...]:
    if isinstance(item, Hunk):
        return item.path, item.start, item.end, item.old, item.new
    text = item.file.text if item.kind == "create" and item.file else ""
    mode = item.executable if item.kind in ("create", "mode") else None
    return item.kind, item.path, item.new_path, text, mode


def _names(proposal: Proposal, base: str, new: Iterable[Item]) -> dict[str, str]:
    """New ids for new items: the revised one's with a number behind it."""
    taken = {item.id for item in proposal.items}
    names: dict[str, str] = {}
    number = 1
    for item in new:
        while f"{base}r{number}" in taken:
            number += 1
        names[item.id] = f"{base}r{number}"
        taken.add(names[item.id])
    return names


def _replace(proposal: Proposal, made: Proposal, gone: list[Item], new: list[Item], names: dict[str, str]) -> None:
    """Take items out and put others in; what depended on one that went depends on what stands there now."""
    instead = {old.id: tuple(names[item.id] for item in new if _beside(item, old)) for old in gone}
    fresh_ones = {id(item) for item in new}
    for item in new:
        item.id, needs = names[item.id], item.depends_on
        item.depends_on = tuple(names.get(each, each) for each in needs)
    for path, fresh in made.files.items():
        fresh.hunks = [hunk for hunk in fresh.hunks if id(hunk) in fresh_ones]
        here = proposal.files.get(path)
        if here is None:
            if fresh.hunks:
                proposal.files[path] = fresh
        else:
            here.moved_on = fresh.moved_on
            here.hunks = _in_order([*(hunk for hunk in here.hunks if hunk.id not in instead), *fresh.hunks])
            here.look()
    for path, here in proposal.files.items():
        if path not in made.files:
            here.hunks, here.moved_on = [hunk for hunk in here.hunks if hunk.id not in instead], False
    proposal.operations = [op for op in proposal.operations if op.id not in instead]
    proposal.operations += [item for item in new if isinstance(item, FileOperation)]
    for item in proposal.items:
        needs = [one for each in item.depends_on for one in instead.get(each, (each,)) if one != item.id]
        item.depends_on = tuple(dict.fromkeys(needs))
    link(proposal)


def _beside(item: Item, old: Item) -> bool:
    if isinstance(item, Hunk) and isinstance(old, Hunk):
        return item.path == old.path and item.start <= old.end and old.start <= item.end
    return item.path == old.path


def _in_order(hunks: Iterable[Hunk]) -> list[Hunk]:
    return sorted(hunks, key=lambda each: (each.start, each.end))
