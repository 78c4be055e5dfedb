"""Where runs over one folder meet: what one changes that another one, or a pending proposal, changes too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redline_agent.errors import RedlineError
from redline_agent.text import split_lines
from redline_agent.workspace.hunks import changes
from redline_agent.workspace.overlay import Overlay, Touched
from redline_agent.workspace.proposal import Proposal

Spans = list[tuple[int, int]]
"""Lines [start, end) of a file as it is without anybody's change."""


@dataclass(slots=True)
class Meetings:
    """What one run is told of the others: of each of them once a file."""

    own: frozenset[str]
    """The run, and the one whose proposal it revises."""
    overlay: Overlay
    working: Callable[[], Mapping[str, Overlay]]
    """The overlays of the runs that are going on, by run."""
    proposals: Callable[[], Iterable[Proposal]]
    _told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def news(self) -> list[str]:
        """Return a sentence for each run that changes the same lines of a file, where that was not said yet."""
        mine = {path: touched for path, touched in self.overlay.touched.items() if touched.edits}
        if not mine:
            return []
        said: list[str] = []
        for run, other in list(self.working().items()):
            for path in mine.keys() & other.touched.keys() if run not in self.own else ():
                theirs = other.touched[path]
                if theirs.edits:
                    same = _text(theirs) == _text(mine[path])
                    said += self._say(path, run, "which is going on", spans(theirs) if same else None)
        for proposal in self.proposals():
            if proposal.run not in self.own:
                said += self._of(proposal, mine)
        return said

    def _of(self, proposal: Proposal, mine: Mapping[str, Touched]) -> list[str]:
        said: list[str] = []
        for path in mine.keys() & proposal.files.keys():
            review = proposal.files[path]
            pending = [(hunk.start, hunk.end) for hunk in review.hunks if hunk.state == "pending"]
            if pending:
                same = review.file.text == _text(mine[path])
                said += self._say(path, proposal.run, "which waits for the user's decision", pending if same else None)
        for op in proposal.operations:
            for path in {op.path, op.new_path} & mine.keys() if op.state == "pending" else ():
                said += self._say(path, proposal.run, "which waits for the user's decision", None)
        return said

    def _say(self, path: str, run: str, what: str, theirs: Spans | None) -> list[str]:
        """A sentence where the lines meet; without lines (the texts differ, or a whole file) the file is what meets."""
        ours = spans(self.overlay.touched[path])
        met = [(max(a, c), min(b, d)) for a, b in ours for c, d in theirs if a <= d and c <= b] if theirs else None
        if met == [] or (path, run) in self._told:
            return []
        self._told.add((path, run))
        if not met:
            return [f"Note: {path} is also changed by {run}, {what}; say so when you finish."]
        first = met[0][0] + 1
        where = f"lines {first} to {max(first, met[-1][1])} of {path}"
        how = (
            "The user can accept one of the two; change no more there than your task needs, and say so when you finish."
        )
        return [f"Note: {where} are also changed by {run}, {what}. {how}"]


def brought_up_to_date(proposals: Sequence[Proposal], overlay: Overlay, *, every: bool = False) -> Sequence[Proposal]:
    """Have proposals from the journal follow what files are without a run's changes: those it changed, or every one."""
    below = Overlay(overlay.resolver, overlay.buffers)
    for proposal in proposals:
        for path in proposal.files.keys() if every else proposal.files.keys() & overlay.touched.keys():
            try:
                seen = below.find(path)
            except RedlineError:
                continue
            if seen is not None:
                proposal.files[path].follow(seen.file.text)
    return proposals


def spans(touched: Touched) -> Spans:
    """Return which lines of its base a run has changed; all of a file that it made or deleted."""
    if touched.base is None:
        return [(0, 0)]
    old = split_lines(touched.base.text)
    if touched.text is None:
        return [(0, len(old))]
    return [(change.start, change.end) for change in changes(old, split_lines(touched.text))]


def _text(touched: Touched) -> str | None:
    return touched.base.text if touched.base is not None else None
