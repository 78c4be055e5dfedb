"""What this server shares with other processes of the user over the same folder: what earlier ones proposed, and the
accepts that a terminal asks for. Imported a little after the first document.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redline_agent.errors import RedlineError
from redline_agent.live import Ear
from redline_agent.text import one_line, plural

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


WAITING_SHOWN_MAX = 3


class Neighbours:
    """The sockets of this server, one for each folder that it works in."""

    def __init__(self, server: RedlineServer) -> None:
        self._server = server
        self._ears: list[Ear] = []
        self._met: set[Path] = set()

    async def meet(self, roots: Iterable[Path]) -> None:
        """Take in what nobody has decided on yet in some folders, and let terminals reach this server; each once."""
        server, known = self._server, set(self._server.reviews.entries)
        new = [root for root in dict.fromkeys(roots) if root not in self._met]
        self._met |= set(new)
        for root in new:
            try:
                workspace = server.runs.workspace(root)
                server.runs.restore(root)
            except RedlineError as error:
                server.client.show(f"Redline: {error}", error=True)
                continue
            ear = Ear(workspace.journal.path, partial(self._answer, root))
            self._ears.append(ear)
            await ear.open()
        server.runs.following.watch(new)
        server.refresh_reviews()
        restored = [entry for run, entry in server.reviews.entries.items() if run not in known]
        for entry in restored:
            server.entry_changed(entry)
        waiting = [entry.proposal for entry in restored if entry.proposal.open]
        if waiting:
            what = "; ".join(one_line(each.instruction, 60) for each in waiting[-WAITING_SHOWN_MAX:])
            server.client.show(f"Redline: {plural(len(waiting), 'proposal')} of before can be decided on: {what}.")

    async def _answer(self, root: Path, message: dict[str, Any]) -> dict[str, Any]:
        server = self._server
        match message:
            case {"do": "open"}:
                paths = [each.path for each in server.documents.all() if each.path.is_relative_to(root)]
                return {"open": [path.relative_to(root).as_posix() for path in paths]}
            case {"do": "accept", "runId": str(run), "hunks": list()}:
                server.runs.restore(root, run)
                wanted = [str(each) for each in message["hunks"]]
                items = server.reviews.select(run, wanted, None, to_accept=True)
                await server.decider.accept(server.reviews.get(run), items)
                return {"states": {item.id: item.state for item in items}}
            case _:
                return {"error": "There is no such request."}

    async def leave(self) -> None:
        """Close the sockets."""
        for ear in self._ears:
            await ear.close()
