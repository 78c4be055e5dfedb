"""What a run's overlay begins with: the open part of an earlier proposal, without the directive that asked for the run.

Everything is written by the run's own permits, as its own edits are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from redline_agent.errors import RedlineError
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Access, text_digest
from redline_agent.text import one_line, split_lines
from redline_agent.workspace.filereview import FileReview
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import FileOperation, Proposal
from redline_agent.workspace.textfile import TextFile

Lines = tuple[int, int]
"""Lines of a file from 1, both ends included."""


@dataclass(slots=True)
class Laying:
    """Lays a proposal's pending items; what no longer fits is left out. The proposal is to be as its files are now."""

    proposal: Proposal
    overlay: Overlay
    keeper: Keeper
    but: Collection[str] = ()
    """Items that are left out."""
    laid: set[str] = field(default_factory=set[str])
    lines: dict[str, Lines] = field(default_factory=dict[str, Lines])
    """Where each hunk that was laid is then."""

    def all(self, last: str = "") -> None:
        """Lay everything; one hunk's change can be the `last` edit of its file. What cannot be laid is left out."""
        for op in self._operations("create"):
            with suppress(RedlineError):
                self._create(op)
        for review in self.proposal.files.values():
            with suppress(RedlineError):
                self._hunks(review, last)
        for kind in ("rename", "mode", "delete"):
            for op in self._operations(kind):
                with suppress(RedlineError):
                    self._operation(op)

    def _create(self, op: FileOperation) -> None:
        if op.file is not None and not self.overlay.exists(op.path):
            self._write(op.path, op.file.text, op.origin, op.file)
            self.laid.add(op.id)

    def _operation(self, op: FileOperation) -> None:
        overlay, keeper = self.overlay, self.keeper
        if not overlay.exists(op.path) or (op.kind == "rename" and overlay.exists(op.new_path)):
            return
        if op.kind == "rename":
            both = keeper.permit(Access("move", op.path)), keeper.permit(Access("move", op.new_path))
            overlay.move(op.path, op.new_path, op.origin, *both)
        elif op.kind == "delete":
            overlay.delete(op.path, op.origin, keeper.permit(Access("delete", op.path)))
        elif (seen := overlay.find(op.path)) is not None:
            permit = keeper.permit(Access("write", op.path, content=text_digest(seen.file.text)))
            overlay.set_executable(op.path, op.executable, op.origin, permit)
        self.laid.add(op.id)

    def _operations(self, kind: str) -> Iterator[FileOperation]:
        for op in self.proposal.operations:
            if op.kind == kind and op.state == "pending" and op.id not in self.but:
                yield op

    def _hunks(self, review: FileReview, last: str) -> None:
        seen = self.overlay.find(review.path)
        if seen is None or seen.file.text != review.file.text:
            return
        here = [hunk for hunk in review.hunks if hunk.state == "pending" and hunk.id not in self.but]
        text, places = review.composed([hunk.id for hunk in here])
        for hunk in here:
            start, end = places[hunk.id]
            self.lines[hunk.id] = start + 1, max(start + 1, end)
        others = [hunk for hunk in here if hunk.id != last]
        if others:
            why = Origin(0, "", "proposal", "; ".join(dict.fromkeys(hunk.reason for hunk in others)))
            self._write(review.path, review.composed([hunk.id for hunk in others])[0], why)
        for hunk in here:
            if hunk.id == last:
                origin = Origin(0, hunk.origin.call_id, hunk.origin.tool, hunk.reason)
                self._write(review.path, text, origin)
        self.laid |= {hunk.id for hunk in here}

    def _write(self, path: str, text: str, origin: Origin, kind: TextFile | None = None) -> None:
        permit = self.keeper.permit(Access("write", path, content=text_digest(text)))
        made = kind is not None and kind.executable
        self.overlay.write(path, text, origin, permit, kind=kind, executable=made)


def without_directive(overlay: Overlay, keeper: Keeper, path: str, line: int, words: str) -> None:
    """Take the comment line (from 0) that asked for a run out of its file: it goes with the proposal."""
    seen = overlay.find(path)
    lines = split_lines(seen.file.text) if seen else []
    if not 0 <= line < len(lines):
        return
    text = "".join(lines[:line] + lines[line + 1 :])
    permit = keeper.permit(Access("write", path, content=text_digest(text)))
    overlay.write(path, text, Origin(0, "", "directive", f"the directive is done: {one_line(words, 60)}"), permit)
