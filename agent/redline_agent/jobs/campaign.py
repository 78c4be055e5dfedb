"""Carrying a campaign out: its targets are found, handed to an engine, and what comes back is delivered. What was done
is kept by commit, paths and task, so that a second start does only what is left.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, Timeout

from redline_agent.config import journal_path, state_dir
from redline_agent.decisions import proposals
from redline_agent.errors import RedlineError, UsageError
from redline_agent.jobs.budget import Budget
from redline_agent.jobs.channel import Listener, place_of
from redline_agent.jobs.coordinator import Coordinator
from redline_agent.jobs.plan import TARGETS_MAX, Plan, Target, targets
from redline_agent.jobs.results import hand_over, merged, write_patch
from redline_agent.jobs.store import ENDED, GIVEN_UP, Row, Store
from redline_agent.jobs.trees import opened
from redline_agent.journal import Journal
from redline_agent.models.names import default_model
from redline_agent.safety.approvals import Memory
from redline_agent.text import one_line

if TYPE_CHECKING:
    from redline_agent.jobs.engine import Engine
    from redline_agent.workspace.proposal import Proposal

_REVIEW = "redline review"
LOST_GRACE_S = 10.0
"""How long the engine has to say what became of a target whose worker has left the line."""
UNBEGUN_MAX = 50
AHEAD = 2
"""How many targets the engine holds for each of its slots."""
WORKERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Where:
    """Where targets are carried out: `workers` processes here, or the workers of a scheduler.

    `listen` is this machine's host (and port), as those workers reach it.
    """

    workers: int = 2
    scheduler: str = ""
    security: Any = None
    listen: str = ""


def folder_of(ident: str) -> Path:
    """Return the folder of a campaign's state."""
    return state_dir() / "campaigns" / ident


@dataclass(slots=True)
class Campaign:
    """One campaign over repositories, which are paths from `base`."""

    plan: Plan
    base: Path
    changed: Callable[[Row], None] = field(default=lambda _row: None)
    model: str = ""
    wanted: list[Target] = field(default_factory=list[Target])
    counts: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    lost: str = ""
    _coordinator: Coordinator | None = None
    _gone: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    _suspects: list[str] = field(default_factory=list[str])
    _lock: BaseFileLock | None = None
    _store: Store | None = None
    _journal: Journal | None = None
    _journals: dict[str, Journal] = field(default_factory=dict[str, Journal])
    _failures: Counter[str] = field(default_factory=Counter[str])
    _queue: deque[str] = field(default_factory=deque[str])

    def __post_init__(self) -> None:
        self.model = self.plan.model or default_model()
        folders = [each if "://" in each else str((self.base / Path(each).expanduser()).resolve())
                   for each in self.plan.repositories]  # fmt: skip
        # targets are known by what they were done with, a campaign's state also by where it works
        self.plan = self.plan.model_copy(update={"model": self.model, "repositories": folders})

    @property
    def folder(self) -> Path:
        """The folder of its state."""
        return folder_of(self.plan.ident)

    @property
    def store(self) -> Store:
        """Its targets."""
        if self._store is None:
            self._store = Store(self.folder / "targets.sqlite")
        return self._store

    @property
    def journal(self) -> Journal:
        """Its journal: the events of all targets."""
        if self._journal is None:
            self._journal = Journal(self.folder / "journal.sqlite")
        return self._journal

    def find(self) -> list[Target]:
        """Find the targets of all repositories as they are committed; raises UsageError."""
        found: dict[str, Target] = {}
        for name in dict.fromkeys(self.plan.repositories):
            try:
                if "://" in name:
                    raise UsageError(f"{name} is no folder here.", hint="Clone it first, and name the clone.")
                with opened(Path(name)) as tree:
                    for each in targets(self.plan, name, tree.commit, tree.files()):
                        found[each.key] = each
                    if tree.unnamed:
                        self.notes.append(f"{tree.unnamed} files of {name} have names that are no text; they are left.")
            except RedlineError as error:
                if len(self.plan.repositories) == 1:
                    raise
                self.problems.append(str(error))  # the others are none the worse for it
        if len(found) > TARGETS_MAX:
            raise UsageError(f"There are {len(found):,} targets; {TARGETS_MAX:,} are the most.", hint="Narrow `over`.")
        if not found:
            raise UsageError("No committed file fits.", hint="Look at `over`, `exclude` and `repositories`.")
        self.wanted = list(found.values())
        return self.wanted

    def look(self) -> list[Row]:
        """Return the targets as they would be begun, without noting anything."""
        return self.store.look(self.wanted)

    def take_in(self, *, again: bool) -> list[Row]:
        """Put the targets into the store; returns them as they stand. `again`: those that failed are left to do.

        Raises UsageError when another process carries this campaign out.
        """
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = FileLock(self.folder / "lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(f"The campaign {self.plan.ident} is going on in another process.") from None
            self._lock = lock
        self.store.take_in(self.wanted, again=again)
        self.store.note("plan", self.plan.model_dump_json())
        self.store.note("model", self.model)
        rows = self.rows()
        self.counts = Counter(row.state for row in rows)
        self._queue = deque(row.target.key for row in rows if row.state not in ENDED)
        return rows

    def rows(self) -> list[Row]:
        """Return the targets of this start."""
        return self.store.rows(each.key for each in self.wanted)

    # ---- carrying out

    async def carry_out(self, where: Where) -> None:
        """Carry out what is left; raises RedlineError when it cannot begin. What ends is delivered as it comes."""
        self.store.charge_reserved()
        spent = self.store.spent_usd(each.key for each in self.wanted)
        coordinator = self._coordinator = Coordinator(
            self.plan, self.model, self.store, self.journal,
            Budget(self.plan.limits.cost_usd_max, self.plan.limits.requests_per_minute, spent),
            self.folder / "archives", _trusted, self._ended, self._lost,
        )  # fmt: skip
        try:
            self._deliver_late(self.rows())
            await self._pack(coordinator)
            await self._all(coordinator, where)
        finally:
            shutil.rmtree(self.folder / "archives", ignore_errors=True)
        if self.plan.output == "branch" and not self.lost:
            self._branches()

    def stop(self, why: str) -> None:
        """Have workers stop; what is done is kept."""
        if self._coordinator is not None:
            self._coordinator.stopping = self._coordinator.stopping or why

    def _lost(self, key: str) -> None:
        if key in self._gone:
            self._gone[key].set()

    async def _pack(self, coordinator: Coordinator) -> None:
        """Pack what workers are given; a repository that cannot be read fails its own targets alone."""
        by_commit: dict[tuple[str, str], list[str]] = {}
        for row in self.rows():
            if row.state not in ENDED:
                by_commit.setdefault((row.target.repository, row.target.commit), []).append(row.target.key)
        for (repository, commit), keys in sorted(by_commit.items()):
            try:
                await asyncio.to_thread(coordinator.archive, repository, commit)
            except RedlineError as error:
                for key in keys:
                    coordinator.end(key, "failed", str(error))
                self._queue = deque(key for key in self._queue if key not in set(keys))

    async def _all(self, coordinator: Coordinator, where: Where) -> None:
        if self._queue:
            async with self._engine(where) as engine:
                host, port = place_of(where.listen or "127.0.0.1:0")
                context = engine.security.get_listen_args("scheduler")["ssl_context"]
                listener = Listener(coordinator.visit)
                address = f"{host}:{await listener.open(host, port, context)}"
                try:
                    at_once = self.plan.limits.concurrency or engine.slots * AHEAD
                    consumers = max(1, min(at_once, len(self._queue)))
                    await asyncio.gather(*(self._consume(engine, coordinator, address) for _ in range(consumers)))
                    for key in self._suspects:
                        self._queue.append(key)
                        await self._consume(engine, coordinator, address, alone=True)
                finally:
                    coordinator.stopping = coordinator.stopping or "the campaign has stopped"
                    await listener.close()

    @asynccontextmanager
    async def _engine(self, where: Where) -> AsyncGenerator[Engine]:
        try:
            from redline_agent.jobs import engine
        except ImportError as error:
            from redline_agent.jobs.trees import needs_scale

            raise needs_scale() from error
        if where.scheduler:
            async with engine.remote(where.scheduler, where.security) as remote:
                yield remote
        else:
            folder = self.folder / "work"
            shutil.rmtree(folder, ignore_errors=True)  # of a process that died
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            wanted = max(1, min(where.workers, WORKERS_MAX, len(self._queue)))
            at_once = self.plan.limits.concurrency or wanted
            workers = min(wanted, at_once)
            try:
                async with engine.embedded(workers, -(-at_once // workers), folder) as embedded:
                    yield embedded
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def _consume(self, engine: Engine, coordinator: Coordinator, address: str, *, alone: bool = False) -> None:
        """Have targets of the queue carried out, one after the other. `alone`: no other is under way."""
        while self._queue and not coordinator.stopping:
            key = self._queue.popleft()
            row = self.store.get(key)
            begun = row.attempt if row else 0
            why, died = "", False
            try:
                await self._carried(engine, {"coordinator": address, "campaign": self.plan.ident, "target": key})
            except Exception as error:  # noqa: BLE001  whatever a worker dies of is the target's
                kind = type(error).__name__
                if kind == "SchedulerLost":
                    self.lost = coordinator.stopping = str(error)
                    return
                died = kind == "WorkerDied"
                why = str(error) if isinstance(error, RedlineError) else f"{kind}: {one_line(str(error), 300)}"
            row = self.store.get(key)
            if row is None or row.state in ENDED or coordinator.stopping:
                continue
            self._failures[key] += 1
            if died and row.attempt == begun and self._failures[key] < UNBEGUN_MAX:
                self._queue.append(key)  # it was only waiting there
            elif died and not (alone or engine.alone) and self._failures[key] > 1:
                self._failures[key] = 0
                self._suspects.append(key)  # it, or another one beside it: that is told when it is alone
            elif died and not (alone or engine.alone):
                self._queue.append(key)
            else:
                self._again(coordinator, row, why)

    def _again(self, coordinator: Coordinator, row: Row, why: str) -> None:
        limit, key = self.plan.limits.tries_max, row.target.key
        self.store.tried(key)
        if row.tries + 1 >= limit:
            coordinator.end(key, "failed", f"{GIVEN_UP} {limit} tries; {why or row.why or 'its worker died'}")
        else:
            self._queue.append(key)

    async def _carried(self, engine: Engine, payload: dict[str, str]) -> None:
        """Have one target carried out; raises what ended it, WorkerDied also when its worker is silent."""
        from redline_agent.jobs.engine import WorkerDied  # it is loaded by now

        gone = self._gone[payload["target"]] = asyncio.Event()
        work, silence = asyncio.create_task(engine.carry_out(payload)), asyncio.create_task(gone.wait())
        try:
            await asyncio.wait({work, silence}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=LOST_GRACE_S)
            if not work.done():
                raise WorkerDied("nothing more was heard of its worker")
            work.result()
        finally:
            self._gone.pop(payload["target"], None)
            silence.cancel()
            work.cancel()
            await asyncio.gather(work, silence, return_exceptions=True)

    def _ended(self, row: Row) -> None:
        """Deliver what a target found, and tell whoever watches."""
        self.counts[row.state] += 1
        try:
            if row.state == "proposed":
                self._deliver(row)
        except RedlineError as error:
            self.problems.append(f"{row.target.label}: {error}")
        self.changed(self.store.get(row.target.key) or row)

    def _deliver_late(self, rows: Sequence[Row]) -> None:
        """Deliver what an earlier start found and did not deliver, or delivered elsewhere."""
        for row in rows:
            place = Path(row.delivered or "-")
            there = row.delivered == _REVIEW if self.plan.output == "proposals" else (
                place.is_file() and place.parent == self.base / self.plan.out)  # fmt: skip
            if row.state == "proposed" and self.plan.output != "branch" and not there:
                try:
                    self._deliver(row)
                except RedlineError as error:
                    self.problems.append(f"{row.target.label}: {error}")

    def _deliver(self, row: Row) -> None:
        match self.plan.output:
            case "proposals":
                hand_over(self.journal, self._journal_of(row.target.repository), row)
                self.store.deliver(row.target.key, _REVIEW)
            case "patches":
                folder = self.base / self.plan.out
                with opened(Path(row.target.repository), row.target.commit) as tree:
                    self.store.deliver(row.target.key, str(write_patch(folder, row, self.proposal(row), tree)))
            case "branch":
                pass  # with all the others of its repository

    def _journal_of(self, repository: str) -> Journal:
        if repository not in self._journals:
            self._journals[repository] = Journal(journal_path(state_dir(), Path(repository)))
        return self._journals[repository]

    def proposal(self, row: Row) -> Proposal:
        """Return what a target proposes."""
        found = proposals(self.journal, row.run)
        if row.run not in found:
            raise RedlineError(f"The proposal of {row.target.label} is not in the campaign's journal.")
        return found[row.run]

    def _branches(self) -> None:
        """Commit each repository's results to its branch."""
        by_repository: dict[str, list[Row]] = {}
        for row in self.rows():
            if row.state == "proposed":
                by_repository.setdefault(row.target.repository, []).append(row)
        for repository, rows in by_repository.items():
            try:
                self._branch(repository, rows)
            except RedlineError as error:
                self.problems.append(str(error))

    def _branch(self, repository: str, rows: Sequence[Row]) -> None:
        name, fact = self.plan.branch_name, f"branch {self.plan.branch_name} {repository}"
        with opened(Path(repository), rows[0].target.commit) as tree:
            result = merged(tree, [(row, self.proposal(row)) for row in rows])
            message = f"{one_line(self.plan.task, 72)}\n\nBy Redline, campaign {self.plan.ident}.\n"
            known = self.store.fact(fact)
            commit = tree.write_branch(
                name, result.changes, message, known, lambda made: self.store.note(fact, f"{known} {made}".strip())
            )
            self.store.note(fact, commit)
        for row in result.taken:
            self.store.deliver(row.target.key, f"{name} {commit[:12]}")
        for row in rows:
            if row.target.key in result.left:  # it is proposed all the same, and can be had another way
                self.problems.append(f"{row.target.label} is not in the branch: {result.left[row.target.key]}")

    def close(self) -> None:
        """Close the files."""
        for journal in self._journals.values():
            journal.close()
        if self._journal is not None:
            self._journal.close()
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            self._lock.release()


def _trusted(repository: Path) -> bool:
    return Memory(state_dir() / "permissions.json").standing(repository, "").trusted
