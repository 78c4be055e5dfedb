"""A proposal: a run's hunks and file operations against named texts, with their proof. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from redline_agent.workspace.filereview import OPEN, FileReview, Hunk, State
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.textfile import TextFile, renamed

_UNDER_WAY = frozenset({"applying", "unconfirmed", "accepted"})
ACCEPTED = "accepted: "
"""What stands before the check of a proof item that speaks of the accepted part alone."""


@dataclass(slots=True)
class FileOperation:
    """A file created, deleted or renamed, or made a program or none ("mode"); accepted by id like a hunk.

    `file` is the new file of a create, the file with its new mode, and what a delete or rename was proposed for.
    """

    id: str
    kind: Literal["create", "delete", "rename", "mode"]
    path: str
    reason: str
    origin: Origin
    new_path: str = ""
    file: TextFile | None = None
    depends_on: tuple[str, ...] = ()
    badge: str = ""
    state: State = "pending"
    mode: int = 0
    """The mode bits of a file that is to be deleted, for when that is taken back; 0 where they are not known."""

    @property
    def executable(self) -> bool:
        """Whether the file is a program afterwards."""
        return self.file is not None and self.file.executable

    @property
    def told(self) -> str:
        """What is done, in words."""
        if self.kind == "mode":
            return f"make {self.path} {'executable' if self.executable else 'not executable'}"
        return f"{self.kind} {self.path}{f' to {self.new_path}' if self.new_path else ''}"


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
    around: bool = False
    """Whether another file of the folder has changed since the proof: what was checked of the project is stale."""
    around_since: bool = False
    """The same, since what was accepted was proven."""
    known: int = field(default=0, repr=False)
    """The last event of the journal that it has: what others decided after that is still to be taken over."""
    made_s: float = field(default_factory=time.time)
    """When it was proposed, in seconds."""
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
        states = {item.state for item in self.items} or {"rejected"}  # one of which nothing is left
        return states.pop() if len(states) == 1 else "mixed"

    def renamed(self, op: FileOperation) -> None:
        """Take over an accepted rename: the file's hunks are from now on in the file of the new name."""
        review = self.files.pop(op.path, None)
        if review is not None:
            review.path = op.new_path
            for hunk in review.hunks:
                hunk.path = op.new_path
            self.files[op.new_path] = review

    def moved(self, old: str, new: str) -> bool:
        """Take over that the user gave a file, or a folder with all in it, another name; False when it is none here."""

        def now(path: str) -> str:
            return renamed(path, old, new)

        ours = [op for op in self.operations if op.kind == "rename" and op.state in _UNDER_WAY]
        if any((old, new) in ((op.path, op.new_path), (op.new_path, op.path)) for op in ours):
            return False  # it is this proposal's own move, or that one's end
        here = {path: now(path) for path in self.files}
        ops = [op for op in self.operations if (now(op.path), now(op.new_path)) != (op.path, op.new_path)]
        if not ops and all(path == to or to in self.files for path, to in here.items()):
            return False
        for op in ops:
            if op.kind == "rename" and op.state in OPEN and now(op.path) == op.new_path:
                op.state = "accepted"  # the user did it
                self.renamed(op)
                continue
            op.path, op.new_path = now(op.path), now(op.new_path)
        for path in [path for path in self.files if now(path) not in self.files]:
            review = self.files.pop(path)
            review.path = now(path)
            for hunk in review.hunks:
                hunk.path = review.path
            self.files[review.path] = review
        self.proof = [replace(item, path=now(item.path)) for item in self.proof]
        self.around = self.around_since = True
        return True

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

    def together(self, ids: Iterable[str]) -> list[str]:
        """What these need, where all of it can still be accepted with them; [] where something of it cannot."""
        needs = self.needs(ids)
        by_id = {item.id: item for item in self.items}
        return needs if all(self.state_of(by_id[need]) in OPEN for need in needs) else []

    def proof_of(self, path: str) -> list[ProofItem]:
        """Return the items that speak of one file, or of the whole, and what was found wrong in files that it changes
        nothing of: that may be any hunk's doing.
        """
        names = {"", path, *(op.new_path for op in self.operations if op.kind == "rename" and op.path == path)}
        own = self._with_new_names({item.path for item in self.items})
        return [item for item in self.proof_now if item.path in names or (item.ok is False and item.path not in own)]

    @property
    def proof_now(self) -> list[ProofItem]:
        """The proof, with what was checked before somebody changed its file marked as stale."""
        moved = self._with_new_names({review.path for review in self.files.values() if review.moved_on})
        since = self._with_new_names({review.path for review in self.files.values() if review.moved_since})

        def is_stale(item: ProofItem) -> bool:
            part = item.check.startswith(ACCEPTED)
            behind, around = (since, self.around_since) if part else (moved, self.around)
            return item.path in behind or ((around or bool(behind)) and not item.path)

        return [
            replace(item, state="stale") if item.state == "current" and is_stale(item) else item for item in self.proof
        ]

    def changed_around(self) -> bool:
        """Take in that another file of the folder has changed; returns whether that makes anything stale."""
        before = self.proof_now
        self.around = self.around_since = True
        return self.proof_now != before

    def _with_new_names(self, paths: set[str]) -> set[str]:
        return paths | {op.new_path for op in self.operations if op.kind == "rename" and op.path in paths}
