"""The tests of the project over the proposal: the affected ones first, new failures told from those of before.

They run in the sandbox, in a folder of their own: what they write there is thrown away. After trust only.
"""

from __future__ import annotations

import os
import re
import shlex
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from redline_agent.errors import RedlineError
from redline_agent.proof.affected import FILES_MAX, affected
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.process import Ran
from redline_agent.text import one_line, plural
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import ProofItem
from redline_agent.workspace.workbench import Workbench

NAMES_SHOWN_MAX = 5
OTHERS_S_MAX = 10.0
"""How long the tests that are not known to be affected may take."""
_FILE_BYTES_MAX = 1_000_000
_TAIL_CHARS = 1_500


@dataclass(frozen=True, slots=True)
class Runner:
    """How a project's tests are run; see runners.toml."""

    name: str
    command: str
    failed: str = ""
    passed: str = ""
    none: str = ""
    partly: str = ""
    names: bool = False
    but: str = ""

    def line(self, python: str, only: Sequence[str] = (), but: Sequence[str] = ()) -> str:
        """Return the command line for all tests, only for some, or for all but some files."""
        chosen = [*only, *(self.but + each for each in but)]
        return self.command.replace("{python}", python).replace("{only}", shlex.join(chosen)).strip()

    def failures(self, output: str) -> set[str]:
        """Return the names of the tests that the output says have failed."""
        found = re.finditer(self.failed, output, re.MULTILINE) if self.failed else ()
        return {str(next(filter(None, each.groups()), "")) for each in found} - {""}


@cache
def _runners() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("redline_agent.proof").joinpath("runners.toml").read_text("utf-8"))


def detected(overlay: Overlay, wish: str) -> Runner | None:
    """Return the project's runner: the user's own command, else the first that its files speak of."""
    if wish not in ("affected", "all", ""):
        known = _runners()["pytest"]  # a command of any kind: names of tests are read where it prints them so
        return Runner("your tests", wish, known["failed"], known["passed"])
    paths = overlay.walk()
    for name, entry in _runners().items():
        data = {key: value for key, value in entry.items() if key != "when"}
        if any(_holds(overlay, paths, each) for each in entry["when"]):
            return Runner(name, **data)
    return None


def _holds(overlay: Overlay, paths: list[str], condition: str) -> bool:
    pattern, _, word = condition.partition(":")
    for path in paths if "*" in pattern else [pattern] if pattern in paths else []:
        if fnmatch(path, pattern):
            try:
                seen = overlay.find(path) if word else None
            except RedlineError:
                continue
            if not word or (seen is not None and word in seen.file.text):
                return True
    return False


@dataclass(slots=True)
class Testing:
    """One proof's tests."""

    overlay: Overlay
    keeper: Keeper
    bench: Workbench
    wish: str
    seconds: float
    before: Overlay | None = None
    began_s: float = 0.0

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return max(1.0, self.seconds - (time.monotonic() - self.began_s))

    async def prove(self, changed: list[str]) -> list[ProofItem]:
        """Return what the tests say of the overlay."""
        self.began_s = time.monotonic()
        runner = detected(self.overlay, self.wish)
        if runner is None:
            return [_unavailable("no tests were found (proof.tests can name a command)")]
        if not self.keeper.standing().trusted:
            return [_unavailable("the folder is not trusted, so nothing of it was run (`redline trust`)")]
        try:
            return await self._run(runner, changed)
        except (RedlineError, OSError) as error:
            return [_unavailable(one_line(str(error), 300))]

    async def _run(self, runner: Runner, changed: list[str]) -> list[ProofItem]:
        first = self._affected(changed) if runner.names and self.wish == "affected" else None
        if first is None:
            return [await self._judged(runner, await self._once(self.bench, runner), "")]
        none = ProofItem("tests", "current", None, "no test imports what was changed")
        if not first:
            return [await self._with_others(runner, [], none)]
        ran = await self._once(self.bench, runner, first)
        item = await self._judged(runner, ran, f"{plural(len(first), 'affected test file')}: ")
        return [await self._with_others(runner, first, item) if item.state == "current" and item.ok else item]

    async def _with_others(self, runner: Runner, first: list[str], item: ProofItem) -> ProofItem:
        """Run the tests that are not known to be affected as well, where they end soon, and say so beside the item."""
        box_s = min(self.left_s, OTHERS_S_MAX)
        ran = await self._once(self.bench, runner, but=first, timeout_s=box_s)
        if ran.stopped:
            why = f'the others did not end in {box_s:g} s (proof.tests = "all" gives them all of proof.seconds)'
            return replace(item, detail=f"{item.detail}; {why}")
        others = await self._judged(runner, ran, "")
        if others.state == "unavailable":
            return item
        said = f"{item.detail}; the others: {others.detail}"
        return replace(item, ok=others.ok if others.ok is False or not first else item.ok, detail=said)

    async def _judged(self, runner: Runner, ran: Ran, scope: str) -> ProofItem:
        """Say what a run of tests shows."""
        output = ran.out.decode("utf-8", "replace")
        if ran.stopped:
            return ProofItem("tests", "timed-out", None, f"{scope}{ran.stopped} (proof.seconds = {self.seconds:g})")
        failures = runner.failures(output)
        if ran.code == 0:
            return ProofItem("tests", "current", True, f"{scope}{_passed(runner, output)}{self._took()}")
        if runner.none and not failures and re.search(runner.none, output):
            return _unavailable(f"{runner.name} found nothing to run: {one_line(output.strip()[-200:])}")
        return await self._compared(runner, failures, scope, output)

    async def _compared(self, runner: Runner, failures: set[str], scope: str, output: str) -> ProofItem:
        """Tell new failures from those of before: the failed tests are run on the files without the proposal."""
        known = sorted({self._was(_file(name)) for name in failures if self._was_there(name)}) if runner.names else []
        old: set[str] = set()
        if known or not runner.names or not failures:
            plain = self.before or Overlay(self.overlay.resolver, self.overlay.buffers)
            base = self.bench.beside("before", plain)
            try:
                ran = await self._once(base, runner, known)
            finally:
                await base.close()
            if ran.stopped:
                why = "failed; whether it did before was not found out in time"
                return ProofItem("tests", "timed-out", None, f"{scope}{_named(failures) or 'the command'} {why}")
            before = ran.out.decode("utf-8", "replace")
            old = {self._is(name) for name in runner.failures(before)}
            if known and not old and ran.code not in (0, 1):  # neither passed nor failed: nothing was run
                why = f"{_named(failures)} failed; whether they did before could not be found out"
                return ProofItem("tests", "current", None, f"{scope}{why}{self._took()}")
            if not failures and ran.code:
                return ProofItem("tests", "current", None, f"failed as before the change{self._took()}")
        new = failures - old
        if failures and not new and runner.partly and re.search(runner.partly, output, re.MULTILINE):
            why = f"{_named(failures)} failed as before the change, and the others were not all run"
            return ProofItem("tests", "current", None, f"{scope}{why}{self._took()}")
        if failures and not new:
            detail = f"{scope}{plural(len(failures), 'test')} failed as before the change: {_named(failures)}"
            return ProofItem("tests", "current", True, detail + self._took())
        if new and runner.names and not await self._again(runner, new):
            why = f"{_named(new)} failed, and passed when run again, so it cannot be relied on"
            return ProofItem("tests", "current", None, f"{scope}{why}{self._took()}")
        why = f"{plural(len(new), 'new failure')}: {_named(new)}" if new else "failed, and did not before"
        also = f"; {len(failures & old)} more failed before" if failures & old else ""
        detail = f"{scope}{why}{also}{self._took()}\n{output.strip()[-_TAIL_CHARS:]}"
        return ProofItem("tests", "current", False, detail)

    async def _again(self, runner: Runner, new: set[str]) -> bool:
        """Whether new failures fail once more; what cannot be told in time does."""
        ran = await self._once(self.bench, runner, sorted({_file(name) for name in new}))
        return bool(ran.stopped) or (ran.code != 0 and bool(new & runner.failures(ran.out.decode("utf-8", "replace"))))

    def _was_there(self, name: str) -> bool:
        return _file(name) not in self.overlay.touched or self.overlay.base_of(_file(name)) is not None

    def _was(self, path: str) -> str:
        """The path that a file had before the run."""
        known = self.overlay.base_of(path) if path in self.overlay.touched else None
        return known[0] if known else path

    def _is(self, name: str) -> str:
        """The name that a test of before has now, if its file was moved."""
        path, more = _file(name), name[len(_file(name)) :]
        touched = self.overlay.touched.get(path)
        return (touched.moved_to if touched and touched.moved_to else path) + more

    def _affected(self, changed: list[str]) -> list[str] | None:
        """Test files that import what was changed; None when that cannot be known."""
        paths = [path for path in self.overlay.walk() if path.endswith((".py", ".pyi"))]
        if len(paths) > FILES_MAX or any(not path.endswith((".py", ".pyi")) for path in changed):
            return None
        texts: dict[str, str] = {}
        for path in paths:
            try:
                seen = self.overlay.find(path)
            except RedlineError:
                continue
            if seen is not None and len(seen.file.text) <= _FILE_BYTES_MAX:
                texts[path] = seen.file.text
        return affected(texts, changed)

    async def _once(
        self,
        bench: Workbench,
        runner: Runner,
        only: Sequence[str] = (),
        *,
        but: Sequence[str] = (),
        timeout_s: float = 0,
    ) -> Ran:
        await bench.ready()
        command = bench.command(runner.line(_python(self.overlay.resolver.root), only, but), ".")
        return await bench.run(command, self.keeper.permit(command), timeout_s=timeout_s or self.left_s)

    def _took(self) -> str:
        return f", {time.monotonic() - self.began_s:.1f} s"


def _file(name: str) -> str:
    return name.partition("::")[0]


def _python(root: Path) -> str:
    """The project's interpreter: its own environment's, the active one's, else the system's."""
    for folder in (root / ".venv", root / "venv", Path(os.environ.get("VIRTUAL_ENV") or "/nonexistent")):
        place = folder / "bin" / "python"
        if place.exists():
            return shlex.quote(str(place))
    return "python3"


def _passed(runner: Runner, output: str) -> str:
    found = re.findall(runner.passed, output, re.MULTILINE) if runner.passed else []
    return f"{found[-1]} passed" if found and str(found[-1]).isdigit() else "passed"


def _named(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMES_SHOWN_MAX])
    return shown + (f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else "")


def _unavailable(why: str) -> ProofItem:
    return ProofItem("tests", "unavailable", None, why)
