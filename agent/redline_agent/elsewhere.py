"""What other processes do in this folder, as the journal tells it: the overlays of runs that are going on there, and
the proposals that have come since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from redline_agent.errors import JournalError
from redline_agent.events import Edited
from redline_agent.journal import Journal
from redline_agent.safety.paths import Resolver
from redline_agent.workspace.kept import restore
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import Proposal


@dataclass(slots=True)
class Elsewhere:
    """Reads the journal again only where something is new in it."""

    journal: Journal
    resolver: Resolver
    _runs: dict[str, tuple[int, Overlay]] = field(default_factory=dict[str, "tuple[int, Overlay]"])
    _open: tuple[int, list[Proposal]] = (-1, [])

    def overlays(self, but: Collection[str]) -> Mapping[str, Overlay]:
        """Return the edits of runs that are going on, but of some; their texts are those of their last call."""
        runs: dict[str, tuple[int, Overlay]] = {}
        for run, seq in self.journal.editing().items():
            if run not in but:
                known = self._runs.get(run)
                runs[run] = known if known is not None and known[0] == seq else (seq, self._read(run))
        self._runs = runs
        return {run: overlay for run, (_, overlay) in runs.items()}

    def _read(self, run: str) -> Overlay:
        overlay = Overlay(self.resolver)
        edits = [event for event in self.journal.of_run(run) if isinstance(event, Edited)]
        try:
            restore(overlay, [(event.files, event.seen) for event in edits], self.journal.text)
        except JournalError:  # a text that is no longer kept
            return Overlay(self.resolver)
        return overlay

    def pending(self, every: Callable[[], Mapping[str, Proposal]]) -> list[Proposal]:
        """Return the proposals that wait for a decision."""
        newest = self.journal.newest(("proposed", "decided"))
        if self._open[0] != newest:
            self._open = newest, [proposal for proposal in every().values() if proposal.open]
        return self._open[1]
