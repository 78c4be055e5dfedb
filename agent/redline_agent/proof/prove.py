"""The proof: what was checked on the overlay before anything is shown. What was not checked is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from redline_agent.proof.checks import linted, parsed
from redline_agent.proof.diagnostics import Checking
from redline_agent.proof.servers import Servers
from redline_agent.proof.suite import Testing
from redline_agent.safety.keeper import Keeper
from redline_agent.together import together
from redline_agent.workspace.overlay import Overlay, Touched
from redline_agent.workspace.proposal import ProofItem
from redline_agent.workspace.since import Watch
from redline_agent.workspace.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Wishes:
    """The `proof` settings: `tests` is "affected", "all", "off" or a command; `servers` is "auto", "off" or names."""

    tests: str = "affected"
    seconds: float = 60.0
    servers: tuple[str, ...] = ("auto",)


@dataclass(slots=True)
class Prover:
    """Proves one run's overlay."""

    overlay: Overlay
    keeper: Keeper
    bench: Workbench
    servers: Servers
    wishes: Wishes
    before: Overlay | None = None
    """The files without the change, where it is in the files already."""

    async def prove(self) -> list[ProofItem]:
        """Check every changed file, and the project with them; what is changed meanwhile makes the latter stale."""
        watch = Watch.begin(self.overlay, time.time())
        items = await self._prove()
        if not any(item.state == "current" and not item.path for item in items):
            return items
        below = await asyncio.to_thread(watch.changed)
        return [_stale(item, below) if below and item.state == "current" and not item.path else item for item in items]

    async def _prove(self) -> list[ProofItem]:
        changed = {path: t for path, t in sorted(self.overlay.touched.items()) if t.text is not None and t.edits}
        gone = [path for path, t in self.overlay.touched.items() if t.text is None and t.base is not None]
        bases = {path: known[1] if (known := self.overlay.base_of(path)) else None for path in changed}
        items = [item for path, t in changed.items() if (item := parsed(path, t, bases[path])) is not None]
        broken = any(item.ok is False for item in items)
        items += [await linted(self.overlay, path, touched, bases[path]) for path, touched in changed.items()
                  if path.endswith((".py", ".pyi"))]  # fmt: skip
        if not changed and not gone:
            return items
        more = await together(
            self._types({} if broken else changed, gone),
            self._tests([] if broken else [*changed, *gone]),
        )
        if broken:
            items += [
                ProofItem(check, "unavailable", None, "not run: a file does not parse")
                for check, wish in (("diagnostics", self.wishes.servers), ("tests", (self.wishes.tests,)))
                if "off" not in wish
            ]
        return [*items, *(item for each in more for item in each)]

    async def _types(self, changed: Mapping[str, Touched], gone: Sequence[str]) -> list[ProofItem]:
        if not (changed or gone) or "off" in self.wishes.servers:
            return []
        wish = () if "auto" in self.wishes.servers else self.wishes.servers
        checking = Checking(self.overlay, self.keeper, self.bench, self.servers, wish, self.wishes.seconds)
        return await checking.prove(changed, gone)

    async def _tests(self, changed: list[str]) -> list[ProofItem]:
        if not changed or self.wishes.tests == "off":
            return []
        bench = self.bench.beside("tests")
        testing = Testing(self.overlay, self.keeper, bench, self.wishes.tests, self.wishes.seconds, self.before)
        try:
            return await testing.prove(changed)
        finally:
            await bench.close()


def _stale(item: ProofItem, below: Sequence[str]) -> ProofItem:
    return replace(item, state="stale", detail=f"{item.detail}; {', '.join(below)} changed meanwhile")
