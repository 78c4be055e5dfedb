"""A background run's worker: `python -m redline_agent.jobs.background < order`. It outlives whoever started it.

Any editor or terminal of the same user reaches it by its socket: to watch, steer, cancel and answer. A question that
nobody answers in time is a no. What happened is in the journal, as with every run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redline_agent.config import load_config, with_limits
from redline_agent.context.index import Index
from redline_agent.errors import RedlineError, UsageError
from redline_agent.events import Event, Retrying, RunEnded, ToolFinished, ToolStarted, TurnStarted, Working
from redline_agent.headless import open_workspace
from redline_agent.jobs.orders import Order, log_of
from redline_agent.live import Ear
from redline_agent.models.pool import Pool
from redline_agent.safety.approvals import Answer, Question
from redline_agent.session import Run, Workspace
from redline_agent.text import clip

ANSWER_S_MAX = 8 * 3600.0
"""How long a question waits for a person; then it is a no."""
WATCH_S_MAX = 10.0
LINGER_S_MAX = 3.0
"""How long those who watch have to hear of the end."""
_LAST_WORDS_S = 0.3
NOTES_MAX = 2_000
NOTES_AT_ONCE = 100
NOTE_CHARS_MAX = 1_000
SHOWN_CHARS_MAX = 20_000
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Waiting:
    """A question that waits for a person; one with `answers` asks for leave, and only those answer it."""

    question: str
    why: str
    answers: tuple[Answer, ...]
    answer: asyncio.Future[str]


@dataclass(slots=True)
class Job:
    """One run, and what those who watch it are told."""

    workspace: Workspace
    run: Run
    waiting: dict[str, Waiting] = field(default_factory=dict[str, Waiting])
    notes: deque[tuple[str, str]] = field(default_factory=lambda: deque[tuple[str, str]](maxlen=NOTES_MAX))
    said: int = 0
    ended: RunEnded | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _task: asyncio.Task[None] | None = None

    async def go(self, pool: Pool) -> None:
        """Carry the run out to its end, and tell those who watch."""
        ear = Ear(self.workspace.journal.path, self.answer)
        await ear.open()
        if not ear.is_open:
            raise RedlineError("Nobody could reach the run: no socket can be opened.", hint="See: redline doctor")
        self._task = asyncio.create_task(self._carry_out(pool))
        await asyncio.wait({self._task})
        broken = None if self._task.cancelled() else self._task.exception()
        if broken is not None:
            logger.error("A background run failed", exc_info=broken)
            self.ended = RunEnded(state="failed", answer=f"It failed: {type(broken).__name__}: {broken}")
        elif self.ended is None:
            self.ended = RunEnded(state="cancelled", answer="Cancelled.")
        self._note("ended", self.ended.state)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), LINGER_S_MAX)
            await asyncio.sleep(_LAST_WORDS_S)  # the others who watch are told as well
        await ear.close()
        if broken is not None:
            raise RedlineError(self.ended.answer) from broken

    async def _carry_out(self, pool: Pool) -> None:
        model = pool.get(self.run.model)
        events = self.workspace.carry_out(self.run, model, self._leave, self._words, pool)
        try:
            async for event in events:
                if isinstance(event, RunEnded):
                    self.ended = event
                elif (shown := _shown(event)) is not None:
                    self._note(*shown)
        finally:
            await events.aclose()

    def _note(self, kind: str, text: str) -> None:
        self.notes.append((kind, clip(text, NOTE_CHARS_MAX)))
        self.said += 1
        self._news.set()
        self._news = asyncio.Event()

    # ---- the person

    async def _leave(self, question: Question) -> Answer:
        answer = await self._asked(Waiting(question.what, question.why, question.answers, _future()))
        return answer if answer in question.answers else "deny"

    async def _words(self, question: str) -> str | None:
        return await self._asked(Waiting(question, "", (), _future()))

    async def _asked(self, waiting: Waiting) -> str | None:
        """Wait for an answer; the time is not the run's."""
        ident, began_s = f"ask-{next(self._ids)}", time.monotonic()
        self.waiting[ident] = waiting
        self.run.state = "waiting"
        self._note("waiting", waiting.question)
        try:
            return await asyncio.wait_for(waiting.answer, ANSWER_S_MAX)
        except TimeoutError:
            return None
        finally:
            del self.waiting[ident]
            self.run.meter.started_s += time.monotonic() - began_s
            if self.run.state == "waiting":
                self.run.state = "running"

    # ---- those who reach it

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one message; raises UsageError for what cannot be done."""
        match message:
            case {"do": "open"}:
                return {"open": []}
            case {"do": "job"}:
                return self.describe()
            case {"do": "watch", "after": int(after)}:
                return await self._watch(after)
            case {"do": "cancel"}:
                return {"cancelled": bool(self._task and not self._task.done() and self._task.cancel())}
            case {"do": "steer", "text": str(text)} if text.strip():
                self.run.steer(text)
                return {"steered": True}
            case {"do": "approve", "requestId": str(ident), "decision": str(decision)}:
                waiting = self._open(ident)
                if decision not in waiting.answers:
                    raise UsageError(f"{ident} cannot be answered with {decision!r}.",
                                     hint=f"Give {', '.join(waiting.answers) or 'an answer in words'}.")  # fmt: skip
                waiting.answer.set_result(decision)
                return {"decision": decision}
            case {"do": "answer", "requestId": str(ident), "text": str(text)}:
                waiting = self._open(ident)
                if waiting.answers:
                    raise UsageError(f"{ident} asks for leave.", hint="Approve or deny it.")
                waiting.answer.set_result(text)
                return {"answered": True}
            case _:
                raise UsageError("A background run cannot do that.")

    def _open(self, ident: str) -> Waiting:
        waiting = self.waiting.get(ident)
        if waiting is None or waiting.answer.done():
            raise UsageError(f"There is no open question {ident!r}.")
        return waiting

    async def _watch(self, after: int) -> dict[str, Any]:
        """Wait for what comes after the first `after` notes, or a while; what was dropped of them is not told."""
        if self.said <= after and self.ended is None:
            news = self._news
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), WATCH_S_MAX)
        first = self.said - len(self.notes)
        start = max(after, first)
        notes = list(itertools.islice(self.notes, start - first, start - first + NOTES_AT_ONCE))
        upto = start + len(notes)
        ended = self.ended is not None and upto >= self.said
        if ended:
            self._told.set()
        return {**self.describe(), "notes": notes, "next": upto, "over": ended}

    def describe(self) -> dict[str, Any]:
        """Return the run in the shape of `redline.runs`."""
        run, ended = self.run, self.ended
        pending = [
            {"requestId": ident, "question": clip(each.question, SHOWN_CHARS_MAX)}
            | ({"why": each.why, "answers": list(each.answers)} if each.answers else {})
            for ident, each in self.waiting.items()
        ]
        return {
            "runId": run.id, "sessionId": run.session, "instruction": clip(run.task.instruction, SHOWN_CHARS_MAX),
            "uri": None, "state": run.state, "doing": self.notes[-1][1] if self.notes else "",
            "plan": [step.model_dump() for step in run.plan.steps] if run.plan else None,
            "answer": clip(run.answer, SHOWN_CHARS_MAX), "outcome": ended.state if ended else None,
            "limit": run.limit or None, "model": run.model,
            "refusals": [clip(each, NOTE_CHARS_MAX) for each in run.refusals[-20:]],
            "usage": {"turns": run.meter.turns, "tokens": run.meter.tokens, "costUsd": run.meter.cost_usd},
            "pending": pending, "background": True, "pid": os.getpid(),
        }  # fmt: skip


def _future() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


def _shown(event: Event) -> tuple[str, str] | None:
    """What those who watch are told of an event: a kind and a line."""
    match event:
        case TurnStarted():
            return "turn", f"turn {event.turn + 1}"
        case ToolStarted():
            return "started", event.title
        case ToolFinished():
            return ("refused" if event.result.error else "done"), event.summary
        case Working():
            return "working", event.text
        case Retrying():
            return "working", f"{event.reason} Trying again in {event.wait_s:.0f} s"
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The editor's unsaved texts as they were when the run was asked for."""

    texts: dict[str, str]

    def open_text(self, path: str) -> tuple[str, int] | None:
        """Text and version of a document that was open."""
        return (self.texts[path], 0) if path in self.texts else None

    def open_paths(self) -> list[str]:
        """Paths of those documents."""
        return list(self.texts)


async def carry_out(given: Order) -> None:
    """Carry an order out."""
    config = load_config()
    config = replace(config, limits=with_limits(config.limits, given.limits, "the order"), plan=given.plan)
    workspace = open_workspace(Path(given.root))
    workspace.buffers = Snapshot(given.buffers)
    workspace.index = Index(workspace.resolver.root)
    pool = Pool(config.compatible)
    model = pool.get(given.model)
    try:
        if given.resumed:
            run = workspace.resume(workspace.cut_off(given.session), config)
        else:
            run = workspace.new_run(given.as_task(), model, config, given.session)
            run.id = given.run
        await Job(workspace, run).go(pool)
    finally:
        await pool.close()
        await workspace.close()
        workspace.journal.close()


def main() -> None:
    """Carry out the order on standard input."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    given = Order.model_validate_json(sys.stdin.buffer.read())
    try:
        asyncio.run(carry_out(given))
    except RedlineError as error:
        sys.stderr.write(f"redline: {error}\n")
        sys.exit(1)
    log_of(given.run).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
