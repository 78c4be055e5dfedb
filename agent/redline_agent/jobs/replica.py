"""A run's part of a journal as JSON values, to be laid into another journal: a worker's, to go on with; the user's, to
be reviewed. Rows are copied as they are, and laying the same ones twice changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from redline_agent.journal import Journal

Rows = dict[str, list[list[Any]]]
_KINDS = {
    "event": "SELECT session, run, at, type, body FROM event WHERE session IN ({}) ORDER BY seq",
    "output": "SELECT session, call, body FROM output WHERE session IN ({})",
    "child": "SELECT c.run, c.key, c.session, c.child FROM child c WHERE c.session IN ({})",
}


def rows_of(journal: Journal, session: str, run: str) -> Rows:
    """Return everything of a session and its run's children: events, outputs, prompts, proposals, texts."""
    sessions = [session]
    for each in sessions:  # children may have children
        runs = [str(row[0]) for row in journal.rows("SELECT DISTINCT run FROM event WHERE session = ?", (each,))]
        sessions += [child for one in (*runs, run) for child in journal.children(one) if child not in sessions]
    marks = ", ".join("?" * len(sessions))
    found: Rows = {kind: _lists(journal.rows(sql.format(marks), sessions)) for kind, sql in _KINDS.items()}
    bodies = [json.loads(row[4]) for row in found["event"]]
    named = [body.get("prompt") or body.get("prompt_digest") for body in bodies]
    prompts = sorted({str(each) for each in named if each})
    texts = sorted({digest for body in bodies if body["type"] == "edited" for digest in _digests(body)})
    runs = sorted({str(row[1]) for row in found["event"]})
    found["prompt"] = _some(journal, "SELECT digest, body FROM prompt WHERE digest IN ({})", prompts)
    found["text"] = _some(journal, "SELECT digest, body FROM raw.text WHERE digest IN ({})", texts)
    found["proposal"] = _some(journal, "SELECT run, body FROM raw.proposal WHERE run IN ({})", runs)
    return found


def _digests(edited: dict[str, Any]) -> list[str]:
    """The texts that an `edited` event names (workspace/kept.py)."""
    found: list[str] = []
    for file in edited["files"]:
        found += [edit[4] for edit in file["edits"] if edit[4]]
        if file.get("base"):
            found.append(file["base"][0])
    return found


def _some(journal: Journal, statement: str, keys: Sequence[str]) -> list[list[Any]]:
    found: list[list[Any]] = []
    for at in range(0, len(keys), 500):
        part = keys[at : at + 500]
        found += _lists(journal.rows(statement.format(", ".join("?" * len(part))), part))
    return found


def _lists(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(row) for row in rows]


def lay(journal: Journal, rows: Rows) -> bool:
    """Lay rows into a journal, all or none; False when the session is there already."""
    with journal.writing() as db:
        first = rows["event"][0][0] if rows["event"] else ""
        if db.execute("SELECT 1 FROM event WHERE session = ? LIMIT 1", (first,)).fetchone():
            return False
        for session, run, at, kind, body in rows["event"]:
            db.execute(
                "INSERT INTO event (session, run, at, owner, type, body) VALUES (?, ?, ?, ?, ?, ?)",
                (session, run, at, os.getpid(), kind, body),
            )
        db.executemany("INSERT OR REPLACE INTO output VALUES (?, ?, ?)", rows["output"])
        db.executemany("INSERT OR REPLACE INTO child (run, key, session, child) VALUES (?, ?, ?, ?)", rows["child"])
        db.executemany("INSERT OR IGNORE INTO prompt VALUES (?, ?)", rows["prompt"])
        db.executemany("INSERT OR IGNORE INTO raw.text VALUES (?, ?)", rows["text"])
        db.executemany("INSERT OR REPLACE INTO raw.proposal VALUES (?, ?)", rows["proposal"])
    return True
