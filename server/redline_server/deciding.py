"""The user's decisions in the editor: accepted under the lease, written down before and after, rejected, reverted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from redline_agent.errors import RedlineError
from redline_agent.text import one_line
from redline_agent.workspace.filereview import OPEN, Hunk
from redline_agent.workspace.proposal import ACCEPTED, FileOperation

from redline_server.review import Entry

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


class Decider:
    """Carries decisions out, one accept after the other."""

    def __init__(self, server: RedlineServer) -> None:
        self._server = server
        self._deciding = asyncio.Lock()

    def accept_soon(self, entry: Entry, items: list[Hunk | FileOperation]) -> None:
        """Accept items in the background; they are seen to be applied from now on."""
        entry.proposal.claimed |= {item.id for item in items}
        self._server.in_background(self.accept(entry, items))

    async def accept(self, entry: Entry, items: list[Hunk | FileOperation]) -> None:
        """Accept items and put the outcome into the journal; raises ReviewError when another process is at it."""
        from redline_agent.workspace.lease import lease_of, leased_here  # with the first accept

        workspace = self._server.runs.workspace(entry.root)
        try:
            async with self._deciding, leased_here(lease_of(workspace.journal.path)):
                self.take_over(entry)
                workspace.accepting(entry.proposal, [item.id for item in items if item.state in OPEN])
                await self._server.acceptor.accept(entry, items)
                self._tell_unsure(items)
            self._server.in_background(self._prove_part(entry, items))
        finally:
            entry.proposal.claimed -= {item.id for item in items}
            workspace.ended(entry.proposal)

    async def _prove_part(self, entry: Entry, items: list[Hunk | FileOperation]) -> None:
        """Prove what was accepted where something of the proposal was left."""
        states = {item.state for item in entry.proposal.items}
        if "accepted" not in states or len(states) == 1 or not any(item.state == "accepted" for item in items):
            return
        await self._server.runs.workspace(entry.root).prove_accepted(entry.proposal, self._server.runs.config)
        self._server.entry_changed(entry)
        wrong = [item for item in entry.proposal.proof if item.check.startswith(ACCEPTED) and item.ok is False]
        if wrong:
            self._server.client.show(
                f"Redline: what you accepted is not whole: {one_line(wrong[0].detail, 200)}", error=True
            )

    def take_over(self, entry: Entry) -> None:
        """Take over what another process has decided on a proposal since."""
        if self._server.runs.workspace(entry.root).decided_elsewhere(entry.proposal):
            entry.disk.clear()
            self._server.refresh_reviews()

    def _tell_unsure(self, items: list[Hunk | FileOperation]) -> None:
        unsure = ", ".join(item.id for item in items if item.state == "unconfirmed")
        if unsure:
            self._server.client.show(f"Redline: the editor has not confirmed {unsure}; look at the text.", error=True)

    def reject(self, entry: Entry, items: Iterable[Hunk | FileOperation]) -> None:
        """Reject items."""
        items = list(items)
        for item in items:
            item.state = "rejected"
        self._decided(entry, "rejected", items)
        entry.proposal.revision += 1
        self._server.entry_changed(entry)

    async def revert(self, entry: Entry, items: list[Hunk | FileOperation]) -> None:
        """Take accepted hunks back, the old lines where the new ones are, and file operations by their opposite.

        Raises ReviewError when another process is deciding.
        """
        from redline_agent.workspace.lease import lease_of, leased_here

        workspace = self._server.runs.workspace(entry.root)
        async with self._deciding, leased_here(lease_of(workspace.journal.path)):
            await self._revert(entry, items)

    async def _revert(self, entry: Entry, items: list[Hunk | FileOperation]) -> None:
        by_path: dict[str, list[Hunk]] = {}
        for item in items:
            if isinstance(item, Hunk):
                by_path.setdefault(item.path, []).append(item)
        try:
            for path, undone in by_path.items():
                await self._server.acceptor.revert(entry, path, undone)
            for item in reversed(items):  # what was done last is undone first
                if isinstance(item, FileOperation):
                    await self._server.acceptor.revert_operation(entry, item)
        finally:
            self._decided(entry, "undone", [item for item in items if item.state == "undone"])

    def _decided(self, entry: Entry, state: str, items: list[Hunk | FileOperation]) -> None:
        proposal = entry.proposal
        try:
            self._server.runs.workspace(entry.root).decided(
                proposal.run, proposal.session, state, [item.id for item in items]
            )
        except RedlineError as error:
            self._server.client.show(f"Redline: {error}", error=True)
