"""The project's language servers: found, started after trust in the sandbox, leased to one proof at a time, reaped.

A server that is warm sees the files as the disk has them and is fed the texts of the overlay. What a proposal creates,
deletes or moves it could see on the disk alone, so that is checked by a server of its own over the whole overlay.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import time
import tomllib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from redline_agent.errors import ToolError
from redline_agent.proof.child import SETTLE_S, Child
from redline_agent.safety.keeper import Keeper
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

AT_ONCE_MAX = 2
"""Warm servers in one workspace folder; the one that was idle longest goes."""
IDLE_S_MAX = 300.0
MEMORY_BYTES_MAX = 2 * 2**30
CHANGES_MAX = 2_000
"""Above so many files that were saved since, a warm server starts anew."""
CREATED, CHANGED, DELETED = 1, 2, 3
"""The protocol's words for what became of a file."""


@dataclass(frozen=True, slots=True)
class Known:
    """A server of the catalogue whose command was found."""

    name: str
    group: str
    argv: tuple[str, ...]
    ends: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settle_s: float = SETTLE_S
    registers: bool = False
    probe: str = ""


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("redline_agent.proof").joinpath("servers.toml").read_text("utf-8"))


def found(root: Path, wish: tuple[str, ...] = ()) -> list[Known]:
    """Return the first server of each group that is in the project's environment, beside Redline or on the PATH.

    `wish` narrows them to some, by name.
    """
    chosen: dict[str, Known] = {}
    for name, entry in _catalogue().items():
        if entry["group"] in chosen or (wish and name not in wish):
            continue
        command = [str(each) for each in entry["command"]]
        place = _place(root, command[0])
        if place:
            chosen[entry["group"]] = Known(
                name,
                entry["group"],
                (place, *command[1:]),
                tuple(entry["ends"]),
                entry.get("settings", {}),
                float(entry.get("settle_s", SETTLE_S)),
                bool(entry.get("registers", False)),
                str(entry.get("probe", "")),
            )
    return list(chosen.values())


def _place(root: Path, command: str) -> str:
    folders = [root / ".venv/bin", root / "venv/bin", root / "node_modules/.bin", Path(sys.prefix) / "bin"]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    return shutil.which(command, path=path) or ""


@dataclass(slots=True)
class _Warm:
    child: Child
    bench: Workbench
    files: dict[str, tuple[int, int]]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_s: float = field(default_factory=time.monotonic)
    given_up: bool = False


class Servers:
    """The warm servers of one workspace folder."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._warm: dict[str, _Warm] = {}
        self._starting = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def lease(self, known: Known, overlay: Overlay, keeper: Keeper) -> AsyncGenerator[Child]:
        """Have a warm server for one proof, over the files as they are on the disk; raises ToolError, Blocked."""
        while True:
            warm = await self._have(known, overlay, keeper)
            async with warm.lock:
                if self._warm.get(known.name) is not warm or not warm.child.alive:
                    continue  # it was let go while others had it
                try:
                    if not await self._follow_disk(known, warm, overlay):
                        continue
                    yield warm.child
                finally:
                    await self._given_back(known.name, warm)
                return

    async def _have(self, known: Known, overlay: Overlay, keeper: Keeper) -> _Warm:
        async with self._starting:
            warm = self._warm.get(known.name)
            if warm is None or not warm.child.alive:
                await self._drop(known.name)
                await self._make_room()
                bench = Workbench(
                    Overlay(overlay.resolver), keeper, self._scratch / f"{known.name}-{next(self._numbers)}"
                )
                files = await asyncio.to_thread(_signatures, overlay, known.ends)
                child = await started(known, bench, keeper, overlay.resolver.root)
                warm = self._warm[known.name] = _Warm(child, bench, files)
            return warm

    async def _follow_disk(self, known: Known, warm: _Warm, overlay: Overlay) -> bool:
        """Tell a warm server what was saved since it looked last; False where that is so much that it starts anew."""
        files = await asyncio.to_thread(_signatures, overlay, known.ends)
        changed = {path for path in files.keys() | warm.files.keys() if files.get(path) != warm.files.get(path)}
        if not changed:
            return True
        if len(changed) > CHANGES_MAX:
            warm.given_up = True
            return False
        await asyncio.to_thread(warm.bench.follow_disk)
        kinds = {path: CREATED if path not in warm.files else CHANGED if path in files else DELETED for path in changed}
        warm.child.changed_on_disk(kinds)
        warm.files = files
        return True

    async def _given_back(self, name: str, warm: _Warm) -> None:
        warm.used_s = time.monotonic()
        if warm.child.alive:
            warm.child.forget()
        if warm.given_up or memory_bytes(warm.child.process.pid) > MEMORY_BYTES_MAX:
            await self._drop(name)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap())

    def give_up(self, name: str) -> None:
        """Have a server that did not answer in time ended with its lease: the next one gets a new one."""
        if name in self._warm:
            self._warm[name].given_up = True

    async def _make_room(self) -> None:
        idle = sorted((each.used_s, name) for name, each in self._warm.items() if not each.lock.locked())
        for _, name in idle[: max(0, len(self._warm) - AT_ONCE_MAX + 1)]:
            await self._drop(name)

    async def _reap(self) -> None:
        """Let go of those that nobody has used for a while."""
        while self._warm and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S_MAX / 5):
                    await self._closing.wait()
            for name, warm in list(self._warm.items()):
                if time.monotonic() - warm.used_s > IDLE_S_MAX and not warm.lock.locked():
                    await self._drop(name)

    async def _drop(self, name: str) -> None:
        warm = self._warm.pop(name, None)
        if warm is not None:
            try:
                await warm.child.end()
            finally:
                await warm.bench.close()

    async def close(self) -> None:
        """End them all. One that is being let go is waited for: a subprocess must not be cancelled half way."""
        self._closing.set()
        if self._reaper is not None:
            await asyncio.gather(self._reaper, return_exceptions=True)
        for name in list(self._warm):
            await self._drop(name)
        self._closing.clear()
        with suppress(OSError):
            self._scratch.rmdir()


def _signatures(overlay: Overlay, ends: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """The files of some names on the disk, with times (ns) and sizes."""
    found: dict[str, tuple[int, int]] = {}
    for path in Overlay(overlay.resolver).walk():
        if path.endswith(ends):
            with suppress(OSError):
                status = os.lstat(overlay.resolver.root / path)
                found[path] = status.st_mtime_ns, status.st_size
    return found


async def started(known: Known, bench: Workbench, keeper: Keeper, root: Path) -> Child:
    """Start a server in a workbench's sandbox; raises ToolError, Blocked."""
    try:
        await bench.ready()
        if bench.found.layer is None:
            raise ToolError("no sandbox holds here, so no language server was started", hint="See: redline doctor")
        command = replace(bench.command(" ".join(known.argv), "."), argv=known.argv)
        process = await bench.serve(command, keeper.permit(command), known.argv, {})
    except BaseException:
        await bench.close()
        raise
    child = Child(
        known.name, process, root, known.settings,
        settle_s=known.settle_s, registers=known.registers, probe=known.probe,
    )  # fmt: skip
    try:
        await child.begin()
    except BaseException:
        await child.end()
        await bench.close()
        raise
    return child


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and all that it started, in bytes; 0 where the system does not say."""
    parents: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            own = int(lines["Pid"])
            parents.setdefault(int(lines["PPid"]), []).append(own)
            sizes[own] = int(lines.get("VmRSS", "0 kB").split()[0]) * 1024
        except (OSError, ValueError, KeyError):
            continue
    total, queue = 0, [pid]
    while queue:
        each = queue.pop()
        total += sizes.get(each, 0)
        queue += parents.get(each, [])
    return total
