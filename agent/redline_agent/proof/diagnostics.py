"""What language servers say of a proposal: only what the change introduces or removes, and never a stale word."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redline_agent.errors import RedlineError
from redline_agent.proof.affected import FILES_MAX, direct
from redline_agent.proof.beyond import Kind, introduced, kind
from redline_agent.proof.child import Child, Diagnostic, Report
from redline_agent.proof.servers import Known, Servers, found, started
from redline_agent.safety.keeper import Keeper
from redline_agent.semantics.symbols import language_of
from redline_agent.text import one_line, plural
from redline_agent.together import together
from redline_agent.workspace.overlay import Overlay, Touched
from redline_agent.workspace.proposal import ProofItem
from redline_agent.workspace.workbench import Workbench

FILE_S_MAX = 10.0
FILES_CHECKED_MAX, IMPORTERS_MAX = 40, 10
ERROR, WARNING = 1, 2
_SHOWN_MAX = 5


@dataclass(slots=True)
class Checking:
    """One proof's language servers."""

    overlay: Overlay
    keeper: Keeper
    bench: Workbench
    servers: Servers
    wish: tuple[str, ...] = ()
    seconds: float = 60.0

    async def prove(self, changed: Mapping[str, Touched], gone: Sequence[str] = ()) -> list[ProofItem]:
        """Return an item for each changed file that some server speaks of, and for each other one that it breaks.

        `gone` are files that are deleted or moved away: those that import them may be broken.
        """
        every = [*changed, *(path for path in gone if path not in changed)]
        wanted = [(known, [path for path in every if path.endswith(known.ends)])
                  for known in found(self.overlay.resolver.root, self.wish)]  # fmt: skip
        wanted = [(known, paths) for known, paths in wanted if paths]
        if wanted and not self.keeper.standing().trusted:
            names = ", ".join(known.name for known, _ in wanted)
            were = f"the language server{'s' if len(wanted) > 1 else ''} {names} {'were' if len(wanted) > 1 else 'was'}"
            why = f"{were} not asked: the folder is not trusted (`redline trust`)"
            return [ProofItem("diagnostics", "unavailable", None, why)]
        more = await together(*(self._one(known, paths) for known, paths in wanted))
        return [item for items in more for item in items]

    async def _one(self, known: Known, paths: list[str]) -> list[ProofItem]:
        try:
            return await self._ask(known, paths)
        except (RedlineError, OSError) as error:
            return [ProofItem("diagnostics", "unavailable", None, one_line(str(error), 300))]

    async def _ask(self, known: Known, paths: list[str]) -> list[ProofItem]:
        until_s = time.monotonic() + self.seconds
        others = self._importers(known, paths)
        beside = [path for path in self.overlay.texts_above_disk() if path.endswith(known.ends)]
        olds, news = self._texts([*paths, *others, *beside])
        asked = [path for path in (*paths[:FILES_CHECKED_MAX], *others) if path in news]
        was = {path: self._was(path) for path in asked}
        async with self.servers.lease(known, self.overlay, self.keeper) as child:
            before = await _all(child, olds, [was[path] for path in asked if was[path] in olds], until_s)
            if not self._moves_files():
                after = await _all(child, news, asked, until_s)
            else:
                child.forget()
                after = await self._over_the_overlay(known, news, asked, until_s)
            if any(report.freshness == "timed-out" for report in (*before.values(), *after.values())):
                self.servers.give_up(known.name)
        items: list[ProofItem] = []
        for path in asked:
            old = olds.get(was[path], "")
            item = _item(known.name, path, before.get(was[path], Report("current")), after[path], old, news[path])
            if path not in others or not item.ok:
                items.append(item)
        if left := len(paths) - FILES_CHECKED_MAX:
            why = f"{plural(left, 'more file')} not checked by {known.name}: it is asked about {FILES_CHECKED_MAX}"
            items += [ProofItem("diagnostics", "unavailable", None, why)] if left > 0 else []
        return items

    def _was(self, path: str) -> str:
        """The path that a file had before the run."""
        known = self.overlay.base_of(path) if path in self.overlay.touched else None
        return known[0] if known else path

    def _moves_files(self) -> bool:
        """Whether the proposal has files that the disk does not have, or the other way round."""
        return any((touched.base is None) != (touched.text is None) for touched in self.overlay.touched.values())

    async def _over_the_overlay(
        self, known: Known, texts: dict[str, str], asked: list[str], until_s: float
    ) -> dict[str, Report]:
        bench = self.bench.beside(known.name)
        child = await started(known, bench, self.keeper, self.overlay.resolver.root)
        try:
            return await _all(child, texts, asked, until_s)
        finally:
            await child.end()
            await bench.close()

    def _importers(self, known: Known, paths: list[str]) -> list[str]:
        """Files that import a changed one: what they use of it may have gone."""
        if ".py" not in known.ends:
            return []
        every = [path for path in self.overlay.walk() if path.endswith(".py")]
        if len(every) > FILES_MAX:
            return []
        olds, _ = self._texts(every)
        gone = [path for path, touched in self.overlay.touched.items() if touched.text is None]
        return [path for path in direct(olds, [*paths, *gone]) if path not in paths][:IMPORTERS_MAX]

    def _texts(self, paths: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The files without the proposal, and with it."""
        olds: dict[str, str] = {}
        news: dict[str, str] = {}
        for path in paths:
            touched = self.overlay.touched.get(path)
            try:
                seen = self.overlay.find(path)
            except RedlineError:
                continue
            if seen is not None:
                news[path] = seen.file.text
            base = touched.base.text if touched and touched.base else None if touched else news.get(path)
            if base is not None:
                olds[path] = base
        return olds, news


async def _all(child: Child, texts: dict[str, str], asked: list[str], until_s: float) -> dict[str, Report]:
    """Open every text first, so that each is seen beside the others, then ask about some, as long as there is time."""
    for path, text in texts.items():
        child.show(path, text, language_of(path) or path.rsplit(".", 1)[-1])
    return {path: await child.diagnose(path, min(FILE_S_MAX, max(0.0, until_s - time.monotonic()))) for path in asked}


def _item(server: str, path: str, before: Report, after: Report, old: str, new_text: str) -> ProofItem:
    if after.freshness != "current" or before.freshness != "current":
        worst = after.freshness if after.freshness != "current" else before.freshness
        why = "did not answer in time" if worst == "timed-out" else "has ended"
        return ProofItem("diagnostics", worst, None, f"{server} {why}", path)
    first, then = _told(before), _told(after)
    new, gone = introduced(first, then, old, new_text, _what), introduced(then, first, new_text, old, _what)
    errors = [each for each in new if each.severity == ERROR]
    removed = f", removes {len(gone)} ({_named(gone[:1])})" if gone else ""
    if errors:
        shown = _named(errors[:_SHOWN_MAX])
        return ProofItem("diagnostics", "current", False, f"introduces {plural(len(errors), 'error')} ({server}):"
                         f" {shown}{removed}", path)  # fmt: skip
    warned = f"no error, {plural(len(new), 'warning')}" if new else "none"
    return ProofItem("diagnostics", "current", True, f"introduces {warned}{removed} ({server})", path)


def _told(report: Report) -> list[Diagnostic]:
    """Errors and warnings alone."""
    return [each for each in report.diagnostics if each.severity <= WARNING]


def _what(diagnostic: Diagnostic) -> tuple[int, Kind]:
    return diagnostic.line, kind(diagnostic.code, diagnostic.message)


def _named(diagnostics: Sequence[Diagnostic]) -> str:
    return "; ".join(f"line {each.line}: {one_line(each.message, 120)}" for each in diagnostics)
