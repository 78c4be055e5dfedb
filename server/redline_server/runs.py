"""Runs in the background: started, watched, steered and cancelled from the editor. Imported with the first command.

A run is a task of the event loop; its progress has a token of the server's own, and cancelling that cancels the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lsprotocol import types as lsp
from redline_agent.config import Config, state_dir
from redline_agent.context.gather import Task
from redline_agent.context.index import Index
from redline_agent.errors import UsageError
from redline_agent.events import Event, Proposed, Retrying, ToolFinished, ToolStarted, TurnStarted, Working
from redline_agent.journal import Journal
from redline_agent.models.base import Model
from redline_agent.models.names import default_model
from redline_agent.models.pool import Pool
from redline_agent.safety.approvals import Answer, Question
from redline_agent.session import Run, Workspace, journal_path
from redline_agent.text import one_line, plural

from redline_server.client import Client
from redline_server.documents import Documents, FolderBuffers
from redline_server.review import Reviews

RUNS_AT_ONCE_MAX = 4
RUNS_KEPT_MAX = 200
CONFIRM_S_MAX = 600.0
PENDING_MAX = 16
"""Open questions at once; one more is denied unasked."""
ANSWER_TITLES: dict[Answer, str] = {
    "deny": "Deny",
    "once": "Allow once",
    "session": "Allow for this session",
    "always": "Always allow in this folder",
}
_REPORT_EVERY_S = 0.1
ANSWER_CHARS_MAX = 300
"""A longer answer is shown as a file."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Pending:
    """A question to the user that a run waits for; one with `answers` asks for leave, and only those answer it."""

    id: str
    run: str
    question: str
    uri: str
    line: int
    answer: asyncio.Future[str]
    answers: tuple[Answer, ...] = ()
    why: str = ""


@dataclass(slots=True)
class Active:
    """A run, its task and its progress."""

    run: Run
    workspace: Workspace
    uri: str
    task: asyncio.Task[None] | None = None
    token: str = ""
    showing: bool = False
    reported_s: float = 0.0
    confirm: str = ""
    line: int = 0


class Runs:
    """All runs of this server."""

    def __init__(self, client: Client, documents: Documents, reviews: Reviews, config: Config) -> None:
        self.config = config
        self.pending: dict[str, Pending] = {}
        self.on_proposal: Callable[[str], None] = lambda _run: None
        self.on_answer: Callable[[str, str], None] = lambda _run, _answer: None
        self._client = client
        self._documents = documents
        self._reviews = reviews
        self._workspaces: dict[Path, Workspace] = {}
        self._active: dict[str, Active] = {}
        self.pool = Pool(config.compatible)
        self._ids = itertools.count(1)

    # ---- starting

    def workspace(self, root: Path) -> Workspace:
        """Return the folder's workspace, its journal opened at the first time."""
        if root not in self._workspaces:
            journal = Journal(journal_path(state_dir(), root))
            journal.close_open_runs()
            buffers = FolderBuffers(self._documents, root)
            self._workspaces[root] = Workspace(root, journal, buffers, Index(root))
        return self._workspaces[root]

    def start(self, root: Path, task: Task, *, uri: str, session: str, confirm: str = "") -> Run:
        """Start a run and return at once; `confirm` is a question that the user must say yes to first."""
        going = sum(1 for active in self._active.values() if active.task and not active.task.done())
        if going >= RUNS_AT_ONCE_MAX:
            raise UsageError(f"{going} runs are going on already.", hint="Wait for one, or cancel one.")
        workspace = self.workspace(root)
        model = self.pool.get(self.model_name)
        if session and not workspace.journal.of_session(session):
            raise UsageError(f"There is no session {session!r} in this folder.")
        run = workspace.new_run(task, model, self.config, session)
        active = Active(
            run,
            workspace,
            uri,
            token=f"redline-{run.id}",
            confirm=confirm,
            line=(task.directive_line or 1) - 1,
        )
        self._active[run.id] = active
        active.task = asyncio.create_task(self._drive(active, model), name=run.id)
        active.task.add_done_callback(lambda _task: self._over(active))
        self._client.notify("redline/status", self.status())
        self._forget_old()
        return run

    @property
    def model_name(self) -> str:
        """The model of the next run."""
        return self.config.model or default_model()

    def _forget_old(self) -> None:
        for ident in list(self._active):
            if len(self._active) <= RUNS_KEPT_MAX:
                return
            task = self._active[ident].task
            if task is None or task.done():
                del self._active[ident]

    # ---- carrying out

    async def _drive(self, active: Active, model: Model) -> None:
        run = active.run
        events = active.workspace.carry_out(
            run,
            model,
            lambda question: self._leave(active, question),
            lambda question: self._words(active, question),
            self.pool,
        )
        try:
            if active.confirm and not await self._confirmed(active):
                run.state, run.answer = (
                    "cancelled",
                    "The directive came with the file, and you did not confirm it.",
                )
                return
            progress = asyncio.create_task(self._begin(active))
            async for event in events:
                self._watch(active, event)
            await progress
        except asyncio.CancelledError:
            await events.aclose()  # lets the run write its end into the journal
        except Exception as error:
            logger.exception("A run failed")
            run.state, run.answer = "failed", f"Redline failed: {error}"

    async def _confirmed(self, active: Active) -> bool:
        run = active.run
        run.state = "waiting"
        ident = f"ask-{next(self._ids)}"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pending[ident] = Pending(ident, run.id, active.confirm, active.uri, active.line, answer)
        asked = asyncio.create_task(self._client.choose(active.confirm, ["Do not run it", "Run it"]))

        def chosen(task: asyncio.Task[str | None]) -> None:
            if not task.cancelled() and task.exception() is None and task.result() and not answer.done():
                answer.set_result("yes" if task.result() == "Run it" else "no")

        asked.add_done_callback(chosen)
        try:
            return (await asyncio.wait_for(answer, CONFIRM_S_MAX)).strip().lower() in ("yes", "y", "run it")
        except TimeoutError:
            return False
        finally:
            asked.cancel()
            self.pending.pop(ident, None)
            if run.state == "waiting" and answer.done():
                run.state = "running"

    async def _leave(self, active: Active, question: Question) -> Answer:
        """Ask for leave to do one thing: our own clients by a request, others by a message with the safe answer first.

        Meanwhile it stands in `redline.runs` and among the code actions, for `redline.approve`. A full queue means no.
        """
        if len(self.pending) >= PENDING_MAX:
            return "deny"
        ident = f"ask-{next(self._ids)}"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pending = Pending(
            ident, active.run.id, question.what, active.uri, active.line, answer, question.answers, question.why
        )
        self.pending[ident] = pending
        active.run.state = "waiting"
        self._client.notify("redline/status", self.status())
        asking = asyncio.create_task(self._put(pending))
        try:
            return cast("Answer", await answer)
        finally:
            asking.cancel()
            self.pending.pop(ident, None)
            if active.run.state == "waiting":
                active.run.state = "running"

    async def _words(self, active: Active, question: str) -> str | None:
        """Ask the user a question in words: shown as a message, it stands in `redline.runs` for `redline.answer`.

        None when the queue is full, or nobody answers in time.
        """
        if len(self.pending) >= PENDING_MAX:
            return None
        ident = f"ask-{next(self._ids)}"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pending[ident] = Pending(ident, active.run.id, question, active.uri, active.line, answer)
        active.run.state = "waiting"
        self._client.notify("redline/status", self.status())
        self._client.notify("redline/question", {"requestId": ident, "runId": active.run.id, "question": question})
        self._client.show(f"Redline asks: {question}\nAnswer with the command redline.answer ({ident}).")
        try:
            return await asyncio.wait_for(answer, CONFIRM_S_MAX)
        except TimeoutError:
            return None
        finally:
            self.pending.pop(ident, None)
            if active.run.state == "waiting":
                active.run.state = "running"

    async def _put(self, pending: Pending) -> None:
        """Put a question to the user in the best way that the client has; what cannot be asked waits for a command."""
        params = {
            "requestId": pending.id, "runId": pending.run, "what": pending.question, "why": pending.why,
            "answers": list(pending.answers),
        }  # fmt: skip
        chosen = await self._client.permission(params)
        if chosen is None:
            titles = {ANSWER_TITLES[each]: each for each in pending.answers}
            message = f"Redline asks for leave to {pending.question}\n{pending.why}"
            title = await self._client.choose(message, list(titles))
            chosen = None if title is None else titles.get(title, "deny")
        if chosen is not None and not pending.answer.done():
            pending.answer.set_result(chosen if chosen in pending.answers else "deny")

    def _watch(self, active: Active, event: Event) -> None:
        match event:
            case TurnStarted():
                self._doing(active, f"turn {event.turn}")
            case ToolStarted():
                self._doing(active, event.title)
            case ToolFinished():
                self._doing(active, event.summary)
            case Working():
                self._doing(active, event.text)
            case Retrying():
                self._doing(active, f"{event.reason} Trying again in {event.wait_s:.0f} s")
            case Proposed() if active.run.proposal:
                self._reviews.add(active.run.proposal, active.workspace.resolver)
                self.on_proposal(active.run.id)
            case _:
                pass
        if self._client.own and not isinstance(event, Proposed):
            self._client.notify("redline/session", {"runId": active.run.id, "event": event.model_dump(mode="json")})

    # ---- progress

    async def _begin(self, active: Active) -> None:
        if not await self._client.create_progress(active.token) or (active.task and active.task.done()):
            return
        active.showing = True
        begin = lsp.WorkDoneProgressBegin(
            title=f"Redline: {one_line(active.run.task.instruction, 60)}", cancellable=True
        )
        self._client.progress(active.token, begin)
        self._report(active)

    def _doing(self, active: Active, text: str) -> None:
        active.run.doing = text
        if time.monotonic() - active.reported_s >= _REPORT_EVERY_S:
            self._report(active)

    def _report(self, active: Active) -> None:
        if active.showing and active.run.doing:
            active.reported_s = time.monotonic()
            self._client.progress(active.token, lsp.WorkDoneProgressReport(message=active.run.doing))

    def _over(self, active: Active) -> None:
        run = active.run
        if run.state in ("running", "waiting"):  # cancelled, perhaps before its first step
            run.state, run.answer = "cancelled", "Cancelled."
        if active.showing:
            active.showing = False
            self._client.progress(active.token, lsp.WorkDoneProgressEnd(message=run.state))
        self._client.show(_closing(run), error=run.state in ("failed", "refused", "limit"))
        if run.state == "answered" and (len(run.answer) > ANSWER_CHARS_MAX or "\n" in run.answer.strip()):
            self.on_answer(run.id, run.answer)
        self._client.notify("redline/status", self.status())

    # ---- asking about, steering, cancelling

    def get(self, run: str) -> Active:
        """Return a run; raises UsageError when there is none."""
        if run not in self._active:
            raise UsageError(f"There is no run {run!r}.", hint="redline.runs lists them.")
        return self._active[run]

    def cancel(self, run: str) -> bool:
        """Cancel a run; False when it had ended."""
        task = self.get(run).task
        return bool(task and not task.done() and task.cancel())

    def cancel_token(self, token: str | int) -> None:
        """Cancel the run of a progress token."""
        for active in self._active.values():
            if active.token == token:
                self.cancel(active.run.id)

    def answer(self, request: str, text: str) -> None:
        """Answer a pending question; raises UsageError when it is not pending."""
        pending = self._open_question(request)
        if pending.answers:
            raise UsageError(f"{request} asks for leave.", hint="Answer it with redline.approve.")
        pending.answer.set_result(text)

    def approve(self, request: str, decision: Answer) -> None:
        """Give or deny leave; raises UsageError when it is not asked for, or not any more."""
        pending = self._open_question(request)
        if decision not in pending.answers:
            raise UsageError(
                f"{request} cannot be answered with {decision!r}.", hint=f"Give {', '.join(pending.answers)}."
            )
        pending.answer.set_result(decision)

    def _open_question(self, request: str) -> Pending:
        pending = self.pending.get(request)
        if pending is None or pending.answer.done():
            raise UsageError(f"There is no open question {request!r}.")
        return pending

    def describe(self, run: str | None) -> list[dict[str, Any]]:
        """Return runs in the shape of `redline.runs`, newest last."""
        wanted = [self.get(run)] if run else list(self._active.values())
        return [self._describe(active) for active in wanted]

    def _describe(self, active: Active) -> dict[str, Any]:
        run = active.run
        return {
            "runId": run.id,
            "sessionId": run.session,
            "instruction": run.task.instruction,
            "uri": active.uri or None,
            "state": run.state,
            "doing": run.doing,
            "plan": [step.model_dump() for step in run.plan.steps] if run.plan else None,
            "answer": run.answer,
            "outcome": None if run.state in ("running", "waiting") else run.state,
            "limit": run.limit or None,
            "refusals": run.refusals,
            "model": run.model,
            "usage": {"turns": run.meter.turns, "tokens": run.meter.tokens, "costUsd": run.meter.cost_usd},
            "pending": [_pending_json(p) for p in self.pending.values() if p.run == run.id],
        }

    def status(self) -> dict[str, Any]:
        """Return what `redline/status` says."""
        meters = [active.run.meter for active in self._active.values()]
        return {
            "model": self.model_name,
            "state": "running" if any(a.run.state == "running" for a in self._active.values()) else "idle",
            "tokens": sum(meter.tokens for meter in meters),
            "costUsd": sum(meter.cost_usd for meter in meters),
        }

    async def close(self) -> None:
        """Cancel everything and close the journals."""
        tasks = [active.task for active in self._active.values() if active.task and not active.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await self.pool.close()
        for workspace in self._workspaces.values():
            if workspace.index is not None:
                await workspace.index.close()
            workspace.journal.close()


def _pending_json(pending: Pending) -> dict[str, Any]:
    known = {"requestId": pending.id, "question": pending.question}
    return known | ({"why": pending.why, "answers": list(pending.answers)} if pending.answers else {})


def _closing(run: Run) -> str:
    if run.state == "proposed" and run.proposal:
        files = {item.path for item in run.proposal.items}
        refused = f" {plural(len(run.refusals), 'call')} refused: {run.refusals[-1]}." if run.refusals else ""
        count = f"{plural(len(run.proposal.items), 'change')} in {plural(len(files), 'file')}"
        return f"Redline: {count} proposed. {one_line(run.answer, 200)}{refused}"
    return f"Redline ({run.state}): {one_line(run.answer or run.task.instruction, 400)}"
