"""A worker's side of one target: the tree is laid out, the run is carried out, and every step waits until the
coordinator has it. `carry` is the one function that a scheduler is asked to call, by its name, with one JSON text.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import os
import shutil
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redline_agent.config import Config, load_config, state_dir, with_limits
from redline_agent.context.estimate import raw_fixed, raw_messages
from redline_agent.context.gather import Task
from redline_agent.context.index import Index
from redline_agent.errors import LimitReached, RedlineError
from redline_agent.events import Durable, RunEnded, RunStarted
from redline_agent.jobs.channel import Line, Superseded
from redline_agent.jobs.replica import lay
from redline_agent.jobs.trees import digest_of, unpack
from redline_agent.journal import Journal
from redline_agent.messages import Usage
from redline_agent.models.base import Model, Piece, Request
from redline_agent.models.pool import Pool
from redline_agent.proof.servers import Servers
from redline_agent.safety.approvals import Memory
from redline_agent.session import Run, Workspace

TARGETS_A_JOURNAL = 100
TREES_MAX = 4
"""How many laid out trees a worker's thread keeps."""
_MARGIN = 3.0
"""How much more tokens a text may have than is counted (context/estimate.py)."""


def carry(payload: str) -> str:
    """Carry one target out; the payload names the coordinator, the campaign and the target. Called by the scheduler."""
    from distributed import get_worker  # it is there: this is called by it

    given = json.loads(payload)
    own: Any = get_worker().security
    context: ssl.SSLContext = own.get_connection_args("worker")["ssl_context"]
    here = _here()
    line = here.reach(given["coordinator"], context)
    begun = line.say({"do": "begin", "target": given["target"]})
    if "skip" in begun:
        return json.dumps({"target": given["target"], "skipped": begun["skip"]})
    return json.dumps({"target": given["target"], "state": here.carry_out(line, begun)})


class AckedJournal(Journal):
    """A worker's journal: nothing counts as written before the coordinator has it on its disk."""

    durable = False

    def __init__(self, path: Path, line: Line, known: set[str]) -> None:
        super().__init__(path)
        self.line = line
        self._known = known
        self._waiting: list[list[Any]] = []

    def begin(self, line: Line) -> None:
        """Write for another target from now on."""
        self.line = line
        self._waiting.clear()

    def append(self, session: str, run: str, *events: Durable) -> None:
        """Have the coordinator write events, with what they speak of; then write them here."""
        waiting, self._waiting = self._waiting, []
        bodies = [event.model_dump(mode="json") for event in events]
        self.line.say({"do": "write", "what": [*waiting, ["event", session, run, bodies]]})
        self._known |= {str(values[0]) for kind, *values in waiting if kind == "prompt"}
        super().append(session, run, *events)

    def keep_prompt(self, digest: str, body: str) -> None:
        """Send a prompt along with the next event, once from each worker."""
        if digest not in self._known:
            self._waiting.append(["prompt", digest, body])
        super().keep_prompt(digest, body)

    def keep_output(self, session: str, call: str, text: str) -> None:
        """Send an output along with the next event."""
        self._waiting.append(["output", session, call, text])
        super().keep_output(session, call, text)

    def keep_text(self, digest: str, text: str) -> None:
        """Send a text along with the next event."""
        self._waiting.append(["text", digest, text])
        super().keep_text(digest, text)

    def keep_child(self, run: str, key: str, session: str, child: str) -> None:
        """Send a child's name along with the next event."""
        self._waiting.append(["child", run, key, session, child])
        super().keep_child(run, key, session, child)


class Metered:
    """A model whose every request has the coordinator's leave."""

    def __init__(self, inner: Model, line: Line) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.inner = inner
        self.line = line
        self._admitted: dict[int, Request] = {}

    async def ready(self) -> None:
        """Find out what only its server can say."""
        await self.inner.ready()
        self.capabilities = self.inner.capabilities

    async def admit(self, request: Request) -> float:
        """Wait for the coordinator's leave; raises LimitReached when the campaign's money is used up."""
        question = (raw_fixed(request.system, request.tools) + raw_messages(request.messages)) * _MARGIN
        bound = self.inner.bound_usd(Usage(cache_write_tokens=round(question), output_tokens=request.output_tokens_max))
        waited = 0.0
        while True:
            said = self.line.say({"do": "ask", "boundUsd": bound})
            if said["refused"]:
                raise LimitReached(str(said["refused"]), limit="cost_usd_max")
            await asyncio.sleep(said["waitS"])
            waited += float(said["waitS"])
            if not said["again"]:
                self._admitted[id(request)] = request  # held, so that no other one has its id
                return waited

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """Ask, with leave."""
        if id(request) not in self._admitted:
            await self.admit(request)
        del self._admitted[id(request)]
        async for piece in self.inner.stream(request):
            yield piece

    def cost_usd(self, usage: Usage) -> float | None:
        """What a reply cost."""
        return self.inner.cost_usd(usage)

    def bound_usd(self, usage: Usage) -> float:
        """What it costs at most."""
        return self.inner.bound_usd(usage)

    async def close(self) -> None:
        """Leave the model open: the worker keeps it."""


class MeteredPool(Pool):
    """A worker's models, each request with the coordinator's leave."""

    def __init__(self, inner: Pool, line: Line) -> None:
        super().__init__()
        self._inner = inner
        self._line = line

    def get(self, name: str) -> Model:
        """Return the metered model of a name."""
        if name not in self._models:
            self._models[name] = Metered(self._inner.get(name), self._line)
        return self._models[name]


@dataclass(slots=True)
class Site:
    """A tree that is laid out, and what was started for it."""

    root: Path
    index: Index
    servers: Servers


@dataclass(slots=True)
class Here:
    """One thread of a worker: its loop, its models, its trees."""

    folder: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    sites: dict[str, Site] = field(default_factory=dict[str, Site])
    prompts: set[str] = field(default_factory=set[str])
    pool: Pool | None = None
    line: Line | None = None
    journal: AckedJournal | None = None
    targets: int = 0

    def reach(self, coordinator: str, context: ssl.SSLContext) -> Line:
        """Return the line to a coordinator: the one of the target before where it holds."""
        if self.line is None or self.line.broken or self.line.address != coordinator:
            if self.line is not None:
                self.line.close()
            self.prompts.clear()
            self.line = Line(coordinator, context)
        return self.line

    def carry_out(self, line: Line, begun: dict[str, Any]) -> str:
        """Carry out the target that has begun; returns how it ended."""
        asyncio.set_event_loop(self.loop)
        try:
            return self.loop.run_until_complete(self._carry_out(line, begun))
        except Superseded as error:
            return f"stopped: {error}"

    async def _carry_out(self, line: Line, begun: dict[str, Any]) -> str:
        config, site, journal = load_config(), await self._site(line, begun), self._journal_for(line, begun)
        workspace = Workspace(site.root, journal, index=site.index if begun["model"] != "builtin" else None)
        workspace.servers = site.servers
        workspace.memory = Memory(self.folder / f"permissions-{'trusted' if begun['trusted'] else 'not'}.json")
        if begun["trusted"]:
            workspace.memory.trust(workspace.resolver.root)
        self.pool = self.pool or Pool(config.compatible)
        ended = await _run(workspace, begun, _limited(config, begun), MeteredPool(self.pool, line))
        line.say({"do": "end", "state": ended.limit or ended.state, "why": ended.answer})
        return ended.state

    def _journal_for(self, line: Line, begun: dict[str, Any]) -> AckedJournal:
        """Return a journal with what the coordinator has of a target; one serves several: making it takes long."""
        self.targets += 1
        if self.journal is not None and (
            self.targets % TARGETS_A_JOURNAL == 0 or self.journal.of_session(str(begun["session"]))
        ):
            self.journal.close()
            for path in self.folder.glob("journal*.sqlite*"):
                path.unlink()
            self.journal = None
        if self.journal is None:
            self.journal = AckedJournal(self.folder / f"journal-{self.targets}.sqlite", line, self.prompts)
        self.journal.begin(line)
        lay(self.journal, begun["rows"])
        return self.journal

    async def _site(self, line: Line, begun: dict[str, Any]) -> Site:
        """Lay the target's tree out, once for all targets of this thread that have it."""
        name = str(begun["archive"]).removesuffix(".tar.gz")
        if name not in self.sites:
            while len(self.sites) >= TREES_MAX:
                await self._leave(next(iter(self.sites)))
            root = self.folder / name
            if not root.is_dir():
                unpack(self._fetched(line, begun), root)
            self.sites[name] = Site(root, Index(root), Servers(self.folder / f"servers-{name[:12]}"))
        return self.sites[name]

    def _fetched(self, line: Line, begun: dict[str, Any]) -> Path:
        path = self.folder / "archive"
        with path.open("wb") as file:
            at, more = 0, True
            while more:
                said = line.say({"do": "archive", "name": begun["archive"], "at": at})
                data = base64.b64decode(said["data"])
                file.write(data)
                at, more = at + len(data), bool(said["more"])
        if digest_of(path) != begun["digest"]:
            raise RedlineError("The files of the target came damaged.")
        return path

    async def _leave(self, name: str) -> None:
        site = self.sites.pop(name)
        await site.servers.close()
        await site.index.close()
        shutil.rmtree(site.root, ignore_errors=True)


async def _run(workspace: Workspace, begun: dict[str, Any], config: Config, pool: Pool) -> RunEnded:
    model = pool.get(str(begun["model"]))
    started = [event for event in workspace.journal.of_run(begun["run"]) if isinstance(event, RunStarted)]
    if started:  # another worker had begun: its replies are not bought again
        run: Run = workspace.resume(next(row for row in workspace.journal.runs() if row.run == begun["run"]), config)
    else:
        task = Task(str(begun["task"]), targets=tuple(begun["paths"]), file=_only_file(workspace, begun["paths"]))
        run = workspace.new_run(task, model, config, str(begun["session"]))
        run.id = str(begun["run"])
    ended = RunEnded(state="failed", answer="it had no end")
    async for event in workspace.carry_out(run, model, pool=pool):
        if isinstance(event, RunEnded):
            ended = event
    return ended


def _only_file(workspace: Workspace, paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 and (workspace.resolver.root / paths[0]).is_file() else ""


def _limited(config: Config, begun: dict[str, Any]) -> Config:
    """The worker's own configuration, with the campaign's limits where they are lower."""
    own = config.limits
    lower = {name: min(value, getattr(own, name)) for name, value in begun["limits"].items()}
    limits = with_limits(own, lower, "the campaign")
    validate = "never" if begun["validation"] == "never" else config.validate
    return replace(config, limits=limits, plan="never", validate=validate, proof_tests=str(begun["tests"]))


_LOCAL = threading.local()
PLACE: dict[str, Path] = {}
"""Where an embedded cluster's worker lays trees out: its campaign removes that folder."""


def _sweep(top: Path) -> None:
    """Remove the trees of workers that died."""
    for folder in top.glob("worker-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _here() -> Here:
    """Return this thread's own."""
    here: Here | None = getattr(_LOCAL, "here", None)
    if here is None:
        top = PLACE.get("folder") or state_dir() / "scratch"
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(top)
        folder = Path(tempfile.mkdtemp(prefix=f"worker-{os.getpid()}-", dir=top))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        here = _LOCAL.here = Here(folder)
    return here
