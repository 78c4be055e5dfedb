"""The one process that knows all of a campaign: workers begin, write and end through it, and go on when it has
answered. What it has acknowledged is in the campaign's journal, so a worker or a scheduler that dies loses nothing.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from redline_agent.errors import JournalError, RedlineError
from redline_agent.events import Compacted, Durable, Proposed, ReplyReceived, Retrying, durable_adapter
from redline_agent.jobs.budget import Budget
from redline_agent.jobs.plan import Plan
from redline_agent.jobs.replica import rows_of
from redline_agent.jobs.store import ENDED, Row, State, Store
from redline_agent.jobs.trees import digest_of, opened
from redline_agent.journal import Journal
from redline_agent.workspace.textfile import digest

CUT = ("minutes_max", "cancelled", "interrupted")
"""Ends in the middle of a request, which may have been paid for."""
PART_BYTES = 4 * 2**20
"""How much of an archive is sent at once."""


@dataclass(slots=True)
class Coordinator:
    """A campaign's state, and what workers are told. `trusted` says whether the user trusts a repository."""

    plan: Plan
    model: str
    store: Store
    journal: Journal
    budget: Budget
    archives: Path
    trusted: Callable[[Path], bool]
    ended: Callable[[Row], None] = field(default=lambda _row: None)
    lost: Callable[[str], None] = field(default=lambda _key: None)
    stopping: str = ""
    _packed: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def visit(self) -> Visit:
        """Return what one connection of a worker talks to."""
        return Visit(self, next(self._ids))

    def archive(self, repository: str, commit: str) -> tuple[str, str]:
        """Return the name of the archive of a commit's files, and its digest; it is made when first asked for."""
        known = self._packed.get(repository + commit)
        if known is None:
            with opened(Path(repository), commit) as tree:
                path = self.archives / f"{tree.ident}.tar.gz"
                if not path.exists():
                    self.archives.mkdir(parents=True, exist_ok=True, mode=0o700)
                    tree.pack(path)
            known = self._packed[repository + commit] = (path.name, digest_of(path))
        return known

    def end(self, key: str, state: State, why: str) -> None:
        """Note how a target ended, and tell whoever wants to know."""
        row = self.store.end(key, state, why)
        if row is not None:
            self.ended(row)


@dataclass(slots=True)
class Visit:
    """One worker at one target."""

    to: Coordinator
    ident: int
    key: str = ""
    attempt: int = 0
    done: bool = False
    sessions: set[str] = field(default_factory=set[str])
    runs: set[str] = field(default_factory=set[str])

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one message of the worker; when the disk does not take it, the whole campaign stops."""
        try:
            return self._answer(message)
        except JournalError as error:
            self.to.stopping = self.to.stopping or str(error)
            raise

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        match message:
            case {"do": "ping"}:
                return {}
            case {"do": "begin", "target": str(key)}:
                return self._begin(key)
            case {"do": "archive", "name": str(name), "at": int(at)}:
                return self._part(name, at)
            case _ if not self._holds():
                return {"stop": "another worker has this target by now"}
            case {"do": "write", "what": list()}:
                self._write(cast("list[list[Any]]", message["what"]))
                return {"stop": self.to.stopping} if self.to.stopping else {}
            case {"do": "ask", "boundUsd": float(bound) | int(bound)}:
                if self.to.stopping:
                    return {"stop": self.to.stopping}
                leave = self.to.budget.ask(self.ident, float(bound))
                if not leave.refused and not leave.again:
                    self.to.store.count(self.key, requests=1)
                    self.to.store.reserve(self.key, self.to.budget.reserved_usd(self.ident))
                return {"waitS": leave.wait_s, "again": leave.again, "refused": leave.refused}
            case {"do": "end", "state": str(state), "why": str(why)}:
                self._end(state, why)
                return {}
            case _:
                raise ValueError("no such request")

    def _holds(self) -> bool:
        row = self.to.store.get(self.key) if self.key else None
        return row is not None and row.attempt == self.attempt and not self.done

    def _begin(self, key: str) -> dict[str, Any]:
        to = self.to
        self.over()  # the target before, where it was left in the middle
        self.key = ""
        row = to.store.get(key)
        if row is None or row.state in ENDED:
            return {"skip": row.state if row else "there is no such target"}
        if to.stopping:
            return {"skip": to.stopping}
        limits = to.plan.limits
        row = to.store.begin(key)
        assert row is not None  # noqa: S101  it was there
        self.key, self.attempt, self.done = key, row.attempt, False
        rows = rows_of(to.journal, row.session, row.run)
        self.sessions = {row.session, *(str(each[0]) for each in rows["event"])}
        self.runs = {row.run, *(str(each[1]) for each in rows["event"])}
        try:
            name, checksum = to.archive(row.target.repository, row.target.commit)
        except RedlineError as error:
            self.done = True
            to.end(key, "failed", str(error))
            return {"skip": str(error)}
        return {
            "target": key, "session": row.session, "run": row.run, "paths": list(row.target.paths),
            "archive": name, "digest": checksum, "task": to.plan.task, "model": to.model, "tests": to.plan.tests,
            "validation": to.plan.validation,
            "trusted": to.trusted(Path(row.target.repository)),
            "limits": {"turns_max": limits.target_turns_max, "cost_usd_max": limits.target_cost_usd_max,
                       "minutes_max": limits.target_minutes_max},
            "rows": rows,
        }  # fmt: skip

    def _part(self, name: str, at: int) -> dict[str, Any]:
        if name not in {known for known, _ in self.to._packed.values()}:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            raise ValueError("no such archive")
        with (self.to.archives / name).open("rb") as file:
            file.seek(at)
            data = file.read(PART_BYTES)
        return {"data": base64.b64encode(data).decode(), "more": len(data) == PART_BYTES}

    def _write(self, what: list[list[Any]]) -> None:
        """Take in what a worker's journal writes, in its order."""
        journal = self.to.journal
        for kind, *values in what:
            match kind:
                case "event":
                    session, run, bodies = values
                    self._own(session, run)
                    events = [durable_adapter.validate_python(body) for body in bodies]
                    journal.append(session, run, *events)
                    self._count(events)
                case "prompt":
                    journal.keep_prompt(*values)
                case "output":
                    session, call, text = values
                    self._own(session)
                    journal.keep_output(session, call, text)
                case "text":
                    name, text = values
                    if digest(text) != name:
                        raise ValueError("a text that is not its digest's")
                    journal.keep_text(name, text)
                case "child":
                    run, key, session, child = values
                    if run not in self.runs or journal.of_session(session):
                        raise ValueError("a child of another target")
                    self.sessions.add(session)
                    self.runs.add(child)
                    journal.keep_child(run, key, session, child)
                case _:
                    raise ValueError("no such write")

    def _own(self, session: str, run: str = "") -> None:
        """Raise ValueError for what is another target's."""
        if session not in self.sessions or (run and run not in self.runs):
            raise ValueError("that is another target's")

    def _count(self, events: list[Durable]) -> None:
        for event in events:
            if isinstance(event, ReplyReceived | Retrying | Compacted):
                usage = event.reply.usage if isinstance(event, ReplyReceived) else event.usage
                if isinstance(event, Compacted) and not usage.total:
                    continue  # it asked for nothing
                unpaid = isinstance(event, Retrying) and not usage.total
                cost = self.to.budget.paid(self.ident, 0.0 if unpaid else event.cost_usd)
                self.to.store.count(self.key, tokens=usage.total, cost_usd=cost)
                self.to.store.reserve(self.key, self.to.budget.reserved_usd(self.ident))

    def _end(self, state: str, why: str) -> None:
        """Say what a run's end means for its target."""
        self.done = True
        cost = self.to.budget.gone(self.ident, unpaid=state in CUT)
        if cost:
            self.to.store.count(self.key, cost_usd=cost)
        self.to.store.reserve(self.key, 0.0)
        match state:
            case _ if self.to.stopping and state not in ("proposed", "answered"):
                self.to.store.leave(self.key)
            case "proposed":
                bad = self._unproven()
                self.to.end(self.key, "failed" if bad else "proposed", bad)
            case "answered":
                self.to.end(self.key, "nothing", why)
            case "cost_usd_max":
                self.to.end(self.key, "over budget", why)
            case "stopped":
                self.to.store.leave(self.key)
            case _:
                self.to.end(self.key, "failed", f"{state}: {why}" if why else state)

    def _unproven(self) -> str:
        """Why a proposal is not good enough, "" when it is."""
        row, policy = self.to.store.get(self.key), self.to.plan.proof
        if row is None or policy == "none":
            return ""
        events = [event for event in self.to.journal.of_run(row.run) if isinstance(event, Proposed)]
        if not events or not events[-1].proposal:
            return "its proposal is not in the campaign's journal"
        proof: list[dict[str, Any]] = events[-1].proposal["proof"]
        bad = [item for item in proof if item["ok"] is False or (policy == "strict" and item["ok"] is None)]
        return f"proof: {bad[0]['path']} {bad[0]['check']}: {bad[0]['detail']}".replace(":  ", ": ") if bad else ""

    def over(self) -> None:
        """Note that the worker has gone."""
        if self.key and not self.done:
            self.done = True
            cost = self.to.budget.gone(self.ident)
            try:
                if cost:
                    self.to.store.count(self.key, cost_usd=cost)
                self.to.store.reserve(self.key, 0.0)
            finally:
                self.to.lost(self.key)
