"""What the journal says of the past: requests made again, sessions forked, exported and imported, usage, calibration.

Everything here is a projection of events, or copies them into another session; nothing is ever changed in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from redline_agent.context.estimate import PAIRS_MAX, Calibration, Pair, calibrate
from redline_agent.context.view import Conversation
from redline_agent.errors import JournalError, UsageError
from redline_agent.events import (
    Copied,
    Durable,
    Edited,
    GateDecided,
    HunksDecided,
    ModelChanged,
    Planned,
    Proposed,
    ReplyReceived,
    RunEnded,
    RunStarted,
    ToolFinished,
    TurnStarted,
    durable_adapter,
)
from redline_agent.journal import Journal, new_id
from redline_agent.messages import Label, Text
from redline_agent.models.base import Request
from redline_agent.prompts.builder import load

LINE_BYTES_MAX = 64 * 2**20
_FORMAT = "redline-session"
IMPORTED = Label(source="web", detail="an imported session")


def calibration_of(journal: Journal, model: str) -> Calibration:
    """Return how a model's reported tokens relate to what was counted, from its newest replies in this journal."""
    return calibrate(counts_of(journal, model))


def counts_of(journal: Journal, model: str) -> list[Pair]:
    """Return the counts of a model's newest replies, oldest first."""
    rows = journal.rows(
        "SELECT json_extract(t.body, '$.raw_tokens'), json_extract(t.body, '$.expected_tokens'),"
        " json_extract(r.body, '$.reply.usage.input_tokens') + json_extract(r.body, '$.reply.usage.cache_read_tokens')"
        " + json_extract(r.body, '$.reply.usage.cache_write_tokens')"
        " FROM event r JOIN event t ON t.seq = (SELECT max(s.seq) FROM event s"
        " WHERE s.run = r.run AND s.type = 'turn_started' AND s.seq < r.seq)"
        " WHERE r.type = 'reply' AND json_extract(r.body, '$.reply.model') = ? ORDER BY r.seq DESC LIMIT ?",
        (model, PAIRS_MAX),
    )
    return [(int(raw or 0), int(expected or 0), int(got or 0)) for raw, expected, got in reversed(rows)]


# ---- a request made again


def rebuilt(journal: Journal, session: str, run: str, turn: int) -> tuple[Request, TurnStarted]:
    """Return the request of a turn, byte for byte as it was sent; raises UsageError when the journal has no such turn.

    `turn` counts within the run; of a turn that was asked more than once it is the request that was answered.
    """
    before: list[Durable] = []
    found: tuple[int, TurnStarted] | None = None
    for ident, event in journal.of_session(session):
        if ident == run and isinstance(event, TurnStarted) and event.turn == turn:
            found = (len(before), event)
        if ident == run and isinstance(event, ReplyReceived) and event.turn == turn:
            break
        before.append(event)
    if found is None:
        raise UsageError(f"{run} has no turn {turn}.")
    at, started = found
    body = journal.prompt(started.prompt)
    if body is None:
        raise JournalError(f"The prompt {started.prompt} is not in the journal.")
    prompt = load(body)
    messages = tuple(Conversation.of(before[:at]).messages(started.model))
    return Request(prompt.parts, prompt.tools, messages, started.output_tokens_max), started


# ---- copies


def turns_of(events: Iterable[Durable]) -> int:
    """Return how many turns a session has."""
    return sum(isinstance(event, ReplyReceived) for event in events)


def fork(journal: Journal, session: str, at: int) -> str:
    """Copy a session up to and with its turn `at` (from 1; 0 is before the first) into a new one; returns that.

    Proposals and decisions stay with the original. Raises UsageError for what is not there.
    """
    events = journal.of_session(session)
    if not events:
        raise UsageError(f"There is no session {session!r} in this folder.", hint="`redline sessions` lists them.")
    most = turns_of(event for _, event in events)
    if not 0 <= at <= most:
        raise UsageError(f"{session} has {most} turns, so it cannot be forked at {at}.")
    kept: list[tuple[str, Durable]] = []
    seen = 0
    for run, event in events:
        if isinstance(event, ReplyReceived):
            seen += 1
        if seen > at or (seen == at and isinstance(event, TurnStarted) and at > 0 and _answered(kept)):
            break
        kept.append((run, event))
    return _copied(journal, kept, Copied(source=session))


def _answered(kept: list[tuple[str, Durable]]) -> bool:
    return any(isinstance(event, ReplyReceived) for _, event in kept)


def _copied(journal: Journal, events: list[tuple[str, Durable]], first: Copied) -> str:
    session = new_id("session")
    runs: dict[str, str] = {}
    last = ""
    for run, event in events:
        if isinstance(event, Proposed | HunksDecided | Edited):
            continue
        if first.imported and isinstance(event, GateDecided | Planned | ModelChanged):
            continue  # a file gives no leave, no step to do and no model to ask
        if run not in runs:
            runs[run] = new_id("run")
            if len(runs) == 1:
                journal.append(session, runs[run], first)
        last = runs[run]
        journal.append(session, last, event)
    for run, copy in runs.items():
        if not any(isinstance(event, RunEnded) for ident, event in events if ident == run):
            journal.append(session, copy, RunEnded(state="cancelled", answer="The session was copied here."))
    return session


def export(journal: Journal, session: str) -> Iterator[str]:
    """Yield a session as lines of JSON: a head, its prompts, its events. The user's raw texts are not among them."""
    events = journal.of_session(session)
    if not events:
        raise UsageError(f"There is no session {session!r} in this folder.", hint="`redline sessions` lists them.")
    yield json.dumps({"format": _FORMAT, "version": 1, "session": session})
    prompts = {event.prompt for _, event in events if isinstance(event, TurnStarted) and event.prompt}
    for digest in sorted(prompts):
        yield json.dumps({"prompt": digest, "body": json.loads(journal.prompt(digest) or "null")}, ensure_ascii=False)
    for run, event in events:
        kept = Proposed(digest=event.digest) if isinstance(event, Proposed) else event
        yield json.dumps({"run": run, "event": kept.model_dump(mode="json")}, ensure_ascii=False)


def import_session(journal: Journal, lines: Iterable[str]) -> str:
    """Bring an exported session in as a new one; returns that. Nothing is written unless every line is right.

    What comes in carries no grants, and all its words are from outside: they are material, and they taint.
    """
    events: list[tuple[str, Durable]] = []
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_BYTES_MAX:
            raise JournalError(f"Line {number} is longer than {LINE_BYTES_MAX:,} characters.")
        if not line.strip():
            continue
        try:
            entry: dict[str, Any] = json.loads(line)
            if number == 1:
                if entry.get("format") != _FORMAT or entry.get("version") != 1:
                    raise JournalError("This is not a session that Redline exported.")
            elif "event" in entry:
                events.append((str(entry["run"]), _outside(durable_adapter.validate_python(entry["event"]))))
        except (ValueError, ValidationError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise JournalError(f"Line {number} is no event of a session: {str(error)[:200]}") from error
    if not any(isinstance(event, RunStarted) for _, event in events):
        raise JournalError("The file has no run in it.")
    return _copied(journal, events, Copied(source="a file", imported=True))


def _outside(event: Durable) -> Durable:
    """The same event with every label of the user's or Redline's own taken away: a file can say anything."""
    match event:
        case RunStarted():
            content = tuple(_untrusted(text) for text in event.content)
            return event.model_copy(update={"content": content, "parent": "", "key": ""})
        case ToolFinished():
            result = event.result.model_copy(update={"label": IMPORTED})
            return event.model_copy(update={"result": result})
        case _:
            changes: dict[str, Any] = {"cost_usd": None} if hasattr(event, "cost_usd") else {}
            for name in ("text", "summary"):
                value = getattr(event, name, None)
                if isinstance(value, Text):
                    changes[name] = _untrusted(value)
            if hasattr(event, "label"):
                changes["label"] = IMPORTED
            return event.model_copy(update=changes) if changes else event


def _untrusted(text: Text) -> Text:
    return text.model_copy(update={"label": IMPORTED})


# ---- usage


@dataclass(slots=True)
class Used:
    """What some requests used; `cost_usd` is None where a price is not known; `lost` were sent and never answered."""

    name: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    lost: int = 0

    @property
    def cached_share(self) -> float:
        """The share of input that came from the provider's cache."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name, "requests": self.requests, "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens, "cachedTokens": self.cached_tokens,
            "cachedShare": round(self.cached_share, 4), "costUsd": self.cost_usd, "lostRequests": self.lost,
        }  # fmt: skip


@dataclass(slots=True)
class Usages:
    """Usage by day, session, run, model and turn, newest first, and each model's calibration."""

    days: list[Used] = field(default_factory=list[Used])
    sessions: list[Used] = field(default_factory=list[Used])
    runs: list[Used] = field(default_factory=list[Used])
    models: list[Used] = field(default_factory=list[Used])
    turns: list[Used] = field(default_factory=list[Used])
    calibrations: dict[str, Calibration] = field(default_factory=dict[str, Calibration])


def usage(journal: Journal, session: str = "") -> Usages:
    """Return what was used, of one session or of all."""
    rows = journal.rows(
        "SELECT session, run, at, type, body FROM event"
        " WHERE type IN ('turn_started', 'reply', 'compacted', 'retrying') AND (? = '' OR session = ?) ORDER BY seq",
        (session, session),
    )
    tables: dict[str, dict[str, Used]] = {name: {} for name in ("days", "sessions", "runs", "models", "turns")}
    waiting: dict[str, tuple[str, ...]] = {}
    for in_session, run, at, kind, body in rows:
        data: dict[str, Any] = json.loads(body)
        day = datetime.fromtimestamp(at).astimezone().date().isoformat()
        reply: dict[str, Any] = data.get("reply") or {}
        model = str(reply.get("model") or data.get("model") or "")
        keys = (str(day), in_session, run, model, f"{run} turn {data.get('turn', 0)}")
        if kind == "turn_started":
            if run in waiting:
                _lost(tables, waiting[run])
            waiting[run] = keys
            continue
        if kind == "reply":
            waiting.pop(run, None)
        used: dict[str, int] = reply.get("usage") or data.get("usage") or {}
        for table, key in zip(tables.values(), keys, strict=True):
            if key and not (key.endswith("turn 0")):
                _add(table.setdefault(key, Used(key)), used, data.get("cost_usd"), replied=kind == "reply")
    for keys in waiting.values():
        _lost(tables, keys)
    newest = {name: list(table.values())[::-1] for name, table in tables.items()}
    calibrations = {each.name: calibration_of(journal, each.name) for each in newest["models"]}
    return Usages(newest["days"], newest["sessions"], newest["runs"], newest["models"], newest["turns"], calibrations)


def _lost(tables: dict[str, dict[str, Used]], keys: tuple[str, ...]) -> None:
    for table, key in zip(tables.values(), keys, strict=True):
        if key:
            table.setdefault(key, Used(key)).lost += 1


def _add(used: Used, tokens: dict[str, int], cost: float | None, *, replied: bool) -> None:
    cached = tokens.get("cache_read_tokens", 0)
    used.requests += replied
    used.input_tokens += tokens.get("input_tokens", 0) + cached + tokens.get("cache_write_tokens", 0)
    used.cached_tokens += cached
    used.output_tokens += tokens.get("output_tokens", 0)
    if cost is None and sum(tokens.values()):
        used.cost_usd = None
    elif used.cost_usd is not None:
        used.cost_usd += cost or 0.0
