"""The journal: an append-only log of a workspace's sessions, in SQLite with a write-ahead log, mode 0600.

Everything else about a session is a projection of it. A row is written before anybody acts on the event, so a
process that dies leaves a valid journal; `close_open_runs` gives the runs that it left open an end. Prompts and the
whole of clipped outputs lie beside the events, each once. Proposals and edits hold the user's texts as they are: those
lie in a file of their own (`raw`), never exported.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from redline_agent.errors import JournalError
from redline_agent.events import (
    Accepting,
    Compacted,
    Durable,
    HunksDecided,
    Proposed,
    ReplyReceived,
    Retrying,
    RunEnded,
    RunStarted,
    durable_adapter,
)

SCHEMA_VERSION = 1
PRECIOUS = (ReplyReceived, Compacted, Retrying, Proposed, Accepting, HunksDecided, RunEnded)
"""Events that are on the disk before anybody acts on them: what was paid for, and what was decided."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  session TEXT NOT NULL,
  run TEXT NOT NULL,
  at REAL NOT NULL,
  owner INTEGER NOT NULL,
  type TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS prompt (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS output (
  session TEXT NOT NULL, call TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (session, call)
) STRICT;
CREATE TABLE IF NOT EXISTS child (run TEXT NOT NULL, key TEXT NOT NULL, session TEXT NOT NULL, child TEXT NOT NULL,
  PRIMARY KEY (run, key)) STRICT;
CREATE TABLE IF NOT EXISTS raw.proposal (run TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS raw.text (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS event_run ON event (run, seq);
CREATE INDEX IF NOT EXISTS event_session ON event (session, seq);
CREATE INDEX IF NOT EXISTS event_type ON event (type, seq);
"""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in a listing; `state` is "running", the outcome, or what was decided on its proposal."""

    session: str
    run: str
    started_s: float
    instruction: str
    model: str
    state: str
    tokens: int


def new_id(kind: str) -> str:
    """Return a fresh id such as "run-3f9c2a1b"."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


class Journal:
    """One workspace's log. All methods raise JournalError, and the log stays valid."""

    durable = True
    """Whether what is precious is synced to the disk; a copy of another journal need not be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.raw_path = path.with_suffix(".raw.sqlite")
            for each in (path, self.raw_path):
                if not each.exists():
                    os.close(os.open(each, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("ATTACH DATABASE ? AS raw", (str(self.raw_path),))
                self._db.execute("PRAGMA raw.journal_mode=WAL")
                self._level = ""
                self._check_version()
                self._db.executescript(_SCHEMA)
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"The journal {path} cannot be opened: {error}.",
                hint="Check the folder's space and permissions, or set REDLINE_STATE_DIR to another one.",
            ) from error

    def _check_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise JournalError(f"{self.path} was written by another version of Redline (schema {version}).")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def append(self, session: str, run: str, *events: Durable) -> None:
        """Write events, all of them or none; they are there after a crash of this process once this returns."""
        with self._guarded("written"), self._synced(any(isinstance(event, PRECIOUS) for event in events)):
            for event in events:
                try:
                    kept = self._keep_raw(run, event) if isinstance(event, Proposed) else event
                    body = kept.model_dump_json()
                except ValueError as error:
                    raise JournalError(f"An event cannot be written down: {error}.") from error
                self._db.execute(
                    "INSERT INTO event (session, run, at, owner, type, body) VALUES (?, ?, ?, ?, ?, ?)",
                    (session, run, time.time(), os.getpid(), event.type, body),
                )

    @contextmanager
    def _synced(self, precious: bool) -> Generator[None]:
        """A transaction; what was paid for or decided is on the disk when it ends, also if the machine dies."""
        level = "OFF" if not self.durable else "FULL" if precious else "NORMAL"
        if level != self._level:
            for schema in ("main", "raw"):
                self._db.execute(f"PRAGMA {schema}.synchronous={level}")
            self._level = level
        with self._transaction():
            yield

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """One transaction over rows as they are, for copies of whole runs (jobs/replica.py)."""
        with self._guarded("written"), self._synced(True):
            yield self._db

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ---- what lies beside the events

    def keep_prompt(self, digest: str, body: str) -> None:
        """Keep a prompt, once, under its digest."""
        self._put("INSERT OR IGNORE INTO prompt (digest, body) VALUES (?, ?)", digest, body)

    def prompt(self, digest: str) -> str | None:
        """Return the prompt of a digest."""
        return self._one("SELECT body FROM prompt WHERE digest = ?", digest)

    def keep_output(self, session: str, call: str, text: str) -> None:
        """Keep the whole of a result that the model is shown in part."""
        self._put("INSERT OR REPLACE INTO output (session, call, body) VALUES (?, ?, ?)", session, call, text)

    def output(self, session: str, call: str) -> str | None:
        """Return the whole of a call's result: what was kept of it, else what the model was shown."""
        kept = self._one("SELECT body FROM output WHERE session = ? AND call = ?", session, call)
        if kept is not None:
            return kept
        return self._one(
            "SELECT json_extract(body, '$.result.text') FROM event WHERE session = ? AND type = 'tool_result'"
            " AND json_extract(body, '$.result.call_id') = ? ORDER BY seq DESC LIMIT 1",
            session,
            call,
        )

    def keep_text(self, digest: str, text: str) -> None:
        """Keep a text of the user's files, raw, under its digest."""
        self._put("INSERT OR IGNORE INTO raw.text (digest, body) VALUES (?, ?)", digest, text)

    def text(self, digest: str) -> str | None:
        """Return the raw text of a digest."""
        return self._one("SELECT body FROM raw.text WHERE digest = ?", digest)

    def keep_child(self, run: str, key: str, session: str, child: str) -> None:
        """Note which session and run a child of a run has."""
        self._put("INSERT OR REPLACE INTO child (run, key, session, child) VALUES (?, ?, ?, ?)",
                  run, key, session, child)  # fmt: skip

    def child(self, run: str, key: str) -> tuple[str, str] | None:
        """Return session and run of a run's child."""
        with self._guarded("read"):
            row = self._db.execute("SELECT session, child FROM child WHERE run = ? AND key = ?", (run, key)).fetchone()
        return (str(row[0]), str(row[1])) if row else None

    def children(self, run: str) -> list[str]:
        """Return the sessions of a run's children."""
        return [str(row[0]) for row in self.rows("SELECT session FROM child WHERE run = ?", (run,))]

    def _put(self, statement: str, *values: str) -> None:
        with self._guarded("written"):
            try:
                self._db.execute(statement, values)
            except UnicodeEncodeError as error:
                raise JournalError(f"A text cannot be written down: {error}.") from error

    def _one(self, statement: str, *values: str) -> str | None:
        with self._guarded("read"):
            row = self._db.execute(statement, values).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the events, for a projection."""
        with self._guarded("read"):
            return self._db.execute(statement, values).fetchall()

    def _keep_raw(self, run: str, event: Proposed) -> Proposed:
        """Put the proposal into the store of raw texts; what is left is its digest."""
        body = event.model_dump_json(include={"proposal"})
        self._db.execute("INSERT OR REPLACE INTO raw.proposal (run, body) VALUES (?, ?)", (run, body))
        return Proposed(digest=hashlib.sha256(body.encode()).hexdigest())

    def _with_raw(self, run: str, event: Durable) -> Durable:
        if not isinstance(event, Proposed) or event.proposal:
            return event
        row = self._db.execute("SELECT body FROM raw.proposal WHERE run = ?", (run,)).fetchone()
        if row is None or hashlib.sha256(row[0].encode()).hexdigest() != event.digest:
            return event
        return event.model_copy(update=json.loads(row[0]))

    def of_session(self, session: str) -> list[tuple[str, Durable]]:
        """Every event of a session in order, each with its run's id."""
        return self._events("session = ?", session)

    def of_run(self, run: str) -> list[Durable]:
        """Every event of a run in order."""
        return [event for _, event in self._events("run = ?", run)]

    def with_owner(self, kinds: Sequence[str], run: str = "") -> list[tuple[str, Durable, int]]:
        """Every event of some types (of one run), oldest first, with its run and the process that wrote it."""
        marks = ", ".join("?" * len(kinds))
        only, values = (" AND run = ?", (*kinds, run)) if run else ("", tuple(kinds))
        rows = self.rows(f"SELECT run, body, owner FROM event WHERE type IN ({marks}){only} ORDER BY seq", values)  # noqa: S608
        try:
            return [
                (name, self._with_raw(name, durable_adapter.validate_json(body)), int(owner))
                for name, body, owner in rows
            ]
        except ValidationError as error:
            raise JournalError(f"The journal {self.path} has an event that cannot be read: {error}.") from error

    def since(self, run: str, kind: str, seq: int) -> list[tuple[int, Durable, int]]:
        """Return a run's events of one type after a number, oldest first, each with its number and its process."""
        rows = self.rows(
            "SELECT seq, body, owner FROM event WHERE run = ? AND type = ? AND seq > ? ORDER BY seq", (run, kind, seq)
        )
        return [(int(at), durable_adapter.validate_json(body), int(owner)) for at, body, owner in rows]

    def of_type(self, kind: str) -> list[tuple[str, Durable]]:
        """Every event of one type, oldest first, each with its run's id."""
        return self._events("type = ?", kind)

    def _events(self, where: str, value: str) -> list[tuple[str, Durable]]:
        with self._guarded("read"):
            rows = self._db.execute(f"SELECT run, body FROM event WHERE {where} ORDER BY seq", (value,)).fetchall()  # noqa: S608
            try:
                return [(run, self._with_raw(run, durable_adapter.validate_json(body))) for run, body in rows]
            except ValidationError as error:
                raise JournalError(f"The journal {self.path} has an event that cannot be read: {error}.") from error

    def runs(self) -> list[RunRow]:
        """All runs, newest first."""
        with self._guarded("read"):
            rows = self._db.execute(
                "SELECT s.session, s.run, s.at, s.body, (SELECT e.body FROM event e WHERE e.run = s.run"
                " AND e.type IN ('outcome', 'resumed') ORDER BY e.seq DESC LIMIT 1)"
                " FROM event s WHERE s.type = 'run_started' AND json_extract(s.body, '$.parent') IN ('', NULL)"
                " ORDER BY s.seq DESC"
            ).fetchall()
        decided: dict[str, dict[str, str]] = {}
        for run, event in self.of_type("decided"):
            if isinstance(event, HunksDecided) and event.state != "pending":
                decided.setdefault(run, {}).update(dict.fromkeys(event.hunks, event.state))
        return [_row(session, run, at, body, end, {*decided.get(run, {}).values()})
                for session, run, at, body, end in rows]  # fmt: skip

    def editing(self) -> dict[str, int]:
        """Return the runs that are going on in living processes and have edited something, with their last edit."""
        rows = self.rows(
            "SELECT e.run, max(e.seq), (SELECT o.owner FROM event o WHERE o.run = e.run ORDER BY o.seq DESC LIMIT 1)"
            " FROM event e WHERE e.type = 'edited' AND e.run IN (SELECT s.run FROM event s"
            " WHERE s.type IN ('run_started', 'resumed') AND NOT EXISTS (SELECT 1 FROM event o"
            " WHERE o.run = s.run AND o.seq > s.seq AND o.type = 'outcome')) GROUP BY e.run"
        )
        return {run: int(seq) for run, seq, owner in rows if _alive(int(owner))}

    def newest(self, kinds: Sequence[str]) -> int:
        """Return the number of the last event of some types, 0 when there is none."""
        marks = ", ".join("?" * len(kinds))
        return int(self.rows(f"SELECT coalesce(max(seq), 0) FROM event WHERE type IN ({marks})", kinds)[0][0])  # noqa: S608

    def close_open_runs(self) -> int:
        """End the runs whose process died without an outcome, as "interrupted"; returns how many."""
        with self._guarded("repaired"):
            rows = self._db.execute(
                "SELECT session, run, (SELECT o.owner FROM event o WHERE o.run = e.run ORDER BY o.seq DESC LIMIT 1)"
                " FROM event e GROUP BY run HAVING max(CASE WHEN type = 'outcome' THEN seq ELSE 0 END)"
                " <= max(CASE WHEN type IN ('run_started', 'resumed') THEN seq ELSE 0 END)"
            ).fetchall()
        dead = [(session, run) for session, run, owner in rows if not _alive(int(owner))]
        for session, run in dead:
            self.append(session, run, RunEnded(state="interrupted", answer="The process ended in mid-run."))
        return len(dead)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _guarded(self, verb: str) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal {self.path} could not be {verb}: {error}.",
                hint="Check the disk's space and permissions.",
            ) from error


def _alive(pid: int) -> bool:
    if pid == os.getpid() or sys.platform == "win32":  # where os.kill would send a signal for real
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _row(session: str, run: str, at: float, started: str, ended: str | None, decided: set[str]) -> RunRow:
    start = RunStarted.model_validate_json(started)
    end = RunEnded.model_validate_json(ended) if ended and '"outcome"' in ended[:30] else None
    state = end.state if end else "running"
    if state == "proposed" and decided:
        state = decided.pop() if len(decided) == 1 else "mixed"
    return RunRow(session, run, at, start.instruction, start.model, state, end.tokens if end else 0)
