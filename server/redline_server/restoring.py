"""Proposals of before: taken in from the journal, brought to what the files have become."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from redline_agent.session import Workspace
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.since import FOUND_MAX, changed_since

from redline_server.review import Entry, Reviews


class Restorer:
    """Reads a folder's journal where something new is in it."""

    def __init__(self, reviews: Reviews) -> None:
        self.on_changed: Callable[[Entry], None] = lambda _entry: None
        self._reviews = reviews
        self._seen: dict[Path, int] = {}
        self._looking: set[asyncio.Task[None]] = set()

    def restore(self, workspace: Workspace, root: Path, run: str = "") -> None:
        """Take in what an earlier process, or another one, proposed: what is open, or one run's."""
        if not run:
            newest = workspace.journal.newest(("proposed",))
            if self._seen.get(root) == newest:
                return
            self._seen[root] = newest
        for ident, proposal in workspace.every_proposal(run).items():
            if ident not in self._reviews.entries and (run or proposal.open):
                above_all = int(time.time() * 1000)  # that a process before can have told: they grow by each change
                proposal.revision = max(proposal.revision, above_all)
                entry = self._reviews.add(proposal, workspace.resolver)
                self._reviews.rebase(entry)
                self._reviews.refresh()
                workspace.settle(proposal)
                if proposal.open and not proposal.around:
                    self._looking.add(task := asyncio.create_task(self._look_around(entry)))
                    task.add_done_callback(self._looking.discard)

    async def _look_around(self, entry: Entry) -> None:
        """Find out whether the folder has changed since the proposal was made."""
        overlay, proposal = Overlay(entry.resolver), entry.proposal
        most = len(proposal.items) * 2 + FOUND_MAX
        found = await asyncio.to_thread(changed_since, entry.root, proposal.made_s, overlay.ignores_folder, most)
        own = {path for op in proposal.operations for path in (op.path, op.new_path)} | proposal.files.keys()
        if any(path not in own and not overlay.ignores(path) for path in found) and proposal.changed_around():
            proposal.revision += 1
            self.on_changed(entry)
