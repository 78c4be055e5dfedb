"""A campaign's targets and what became of each, in SQLite beside the campaign's journal. One process writes it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from redline_agent.errors import JournalError
from redline_agent.jobs.plan import Target
from redline_agent.journal import new_id

State = Literal["left", "running", "proposed", "nothing", "failed", "over budget"]
ENDED: tuple[State, ...] = ("proposed", "nothing", "failed", "over budget")
GIVEN_UP = "given up after"
"""How the reason begins of a target that failed because its workers died."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS target (
  key TEXT PRIMARY KEY, repository TEXT NOT NULL, git_commit TEXT NOT NULL, paths TEXT NOT NULL, state TEXT NOT NULL,
  why TEXT NOT NULL, tries INTEGER NOT NULL, attempt INTEGER NOT NULL, session TEXT NOT NULL, run TEXT NOT NULL,
  requests INTEGER NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL, seconds REAL NOT NULL, began REAL NOT NULL,
  delivered TEXT NOT NULL, reserved REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One target's state, in the order of the table. Times in seconds.

    `attempt` fences: what an earlier one still writes is refused.
    """

    target: Target
    state: State
    why: str = ""
    tries: int = 0
    attempt: int = 0
    session: str = ""
    run: str = ""
    requests: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    began: float = 0.0
    delivered: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        target = self.target
        return {
            "key": target.key, "repository": target.repository, "commit": target.commit, "paths": list(target.paths),
            "state": self.state, "why": self.why or None, "tries": self.tries, "runId": self.run,
            "requests": self.requests, "tokens": self.tokens, "costUsd": round(self.cost_usd, 6),
            "seconds": round(self.seconds, 3), "delivered": self.delivered or None,
        }  # fmt: skip


class Store:
    """All targets of one campaign."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            path.chmod(0o600)
            self._do("PRAGMA journal_mode=WAL")
            self._do("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"The campaign's state {path} cannot be opened: {error}.") from error

    def _do(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise JournalError(f"The campaign's state cannot be written or read: {error}.") from error

    def take_in(self, wanted: Sequence[Target], *, again: bool) -> None:
        """Add new targets; those that were not ended (and failed ones, `again`) are left to do, with fresh tries."""
        self._do("BEGIN IMMEDIATE")
        for each in wanted:
            self._do(
                "INSERT OR IGNORE INTO target VALUES (?, ?, ?, ?, 'left', '', 0, 0, ?, ?, 0, 0, 0, 0, 0, '', 0)",
                (each.key, each.repository, each.commit, json.dumps(each.paths), new_id("session"), new_id("run")),
            )
            self._do(
                "UPDATE target SET state = 'left', why = '', tries = 0"
                " WHERE key = ? AND state IN ('left', 'running', 'over budget')", (each.key,),
            )  # fmt: skip
            if again:  # what was given up has no end: it goes on from its journal, and pays for nothing twice
                self._do(
                    "UPDATE target SET state = 'left', tries = 0, why = ''"
                    " WHERE key = ? AND state = 'failed' AND why LIKE ?", (each.key, GIVEN_UP + "%"),
                )  # fmt: skip
                self._do(
                    "UPDATE target SET state = 'left', why = '', tries = 0, session = ?, run = ?"
                    " WHERE key = ? AND state = 'failed'", (new_id("session"), new_id("run"), each.key),
                )  # fmt: skip
        self._do("COMMIT")

    def look(self, wanted: Sequence[Target]) -> list[Row]:
        """Return targets as they would be begun, without noting anything."""
        known = {row.target.key: row for row in self.rows(each.key for each in wanted)}
        left: tuple[State, ...] = ("running", "over budget")
        rows = [known.get(each.key, Row(each, "left")) for each in wanted]
        return [replace(row, state="left") if row.state in left else row for row in rows]

    def rows(self, keys: Iterable[str] | None = None) -> list[Row]:
        """Return all targets, or some, in the order of repository and path."""
        wanted = None if keys is None else set(keys)
        found = self._do("SELECT * FROM target ORDER BY repository, paths").fetchall()
        return [_row(values) for values in found if wanted is None or values[0] in wanted]

    def get(self, key: str) -> Row | None:
        """Return one target."""
        values = self._do("SELECT * FROM target WHERE key = ?", (key,)).fetchone()
        return _row(values) if values else None

    def begin(self, key: str) -> Row | None:
        """Note that a worker begins with a target: one more try, which fences off the one before."""
        self._do(
            "UPDATE target SET state = 'running', attempt = attempt + 1, began = ? WHERE key = ?",
            (time.time(), key),
        )
        return self.get(key)

    def count(self, key: str, *, requests: int = 0, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Add to what a target used."""
        self._do(
            "UPDATE target SET requests = requests + ?, tokens = tokens + ?, cost = cost + ? WHERE key = ?",
            (requests, tokens, cost_usd, key),
        )

    def tried(self, key: str) -> None:
        """Note that a worker died at a target."""
        self._do("UPDATE target SET tries = tries + 1 WHERE key = ?", (key,))

    def reserve(self, key: str, usd: float) -> None:
        """Note what requests of a target that are under way may cost at most, in US dollars."""
        self._do("UPDATE target SET reserved = ? WHERE key = ?", (usd, key))

    def charge_reserved(self) -> None:
        """Count what was reserved when the process before this one died as spent: it may have been."""
        self._do("UPDATE target SET cost = cost + reserved, reserved = 0 WHERE reserved > 0")

    def end(self, key: str, state: State, why: str = "") -> Row | None:
        """Note how a target ended; its seconds are those of its last try."""
        self._do(
            "UPDATE target SET state = ?, why = ?, began = 0, seconds = CASE WHEN began > 0 THEN ? - began ELSE seconds"
            " END WHERE key = ?", (state, why[:2_000], time.time(), key),
        )  # fmt: skip
        return self.get(key)

    def leave(self, key: str) -> None:
        """Note that a target is to be done later."""
        self._do("UPDATE target SET state = 'left' WHERE key = ? AND state = 'running'", (key,))

    def deliver(self, key: str, where: str) -> None:
        """Note where a target's result went."""
        self._do("UPDATE target SET delivered = ? WHERE key = ?", (where, key))

    def spent_usd(self, keys: Iterable[str]) -> float:
        """Return what some targets cost so far, in US dollars."""
        return sum(row.cost_usd for row in self.rows(keys))

    def counts(self, keys: Iterable[str]) -> dict[str, int]:
        """Return how many of some targets are in each state."""
        found: dict[str, int] = {}
        for row in self.rows(keys):
            found[row.state] = found.get(row.state, 0) + 1
        return found

    def note(self, name: str, value: str) -> None:
        """Keep a fact about the campaign."""
        self._do("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def fact(self, name: str) -> str:
        """Return a fact, "" when it is not known."""
        row = self._do("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _row(values: tuple[Any, ...]) -> Row:
    key, repository, commit, paths, *rest = values
    target = Target(key, repository, commit, tuple(json.loads(paths)))
    return Row(target, *rest[:-1])
