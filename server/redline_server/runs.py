"""Runs in the background: started, watched, steered and cancelled from the editor. Imported with the first command.

A run is a task of the event loop; its progress has a token of the server's own, and cancelling that cancels the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lsprotocol import types as lsp
from redline_agent.config import Config, journal_path, state_dir
from redline_agent.context.gather import Task
from redline_agent.context.index import Index
from redline_agent.errors import RedlineError, UsageError
from redline_agent.events import Event, Failed, Proposed, Retrying, ToolFinished, ToolStarted, TurnStarted, Working
from redline_agent.jobs import orders
from redline_agent.journal import Journal
from redline_agent.models.base import Model
from redline_agent.models.names import default_model
from redline_agent.models.pool import Pool
from redline_agent.session import Run, Workspace
from redline_agent.text import one_line
from redline_agent.workspace.proposal import Proposal
from redline_agent.workspace.revising import Revision

from redline_server.client import Client
from redline_server.documents import Documents, FolderBuffers
from redline_server.following import Following, proposed
from redline_server.questions import Questions
from redline_server.restoring import Restorer
from redline_server.review import Entry, Reviews
from redline_server.telling import closing, described

RUNS_AT_ONCE_MAX = 4
RUNS_KEPT_MAX = 200
WARMED_MAX = 4
"""How many folders are indexed before anybody asks."""
_REPORT_EVERY_S = 0.1
ANSWER_CHARS_MAX = 300
"""A longer answer is shown as a file."""

Got = TypeVar("Got")
logger = logging.getLogger(__name__)


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
        self.questions = Questions(client)
        self.on_proposal: Callable[[str], None] = lambda _run: None
        self.on_answer: Callable[[str, str], None] = lambda _run, _answer: None
        self._client = client
        self._documents = documents
        self._reviews = reviews
        self._workspaces: dict[Path, Workspace] = {}
        self._active: dict[str, Active] = {}
        self.restorer = Restorer(reviews)
        self.pool = Pool(config.compatible)
        self.following = Following(
            client, self.questions, self._ended_elsewhere, lambda root: self.workspace(root).journal.path
        )

    # ---- starting

    def workspace(self, root: Path) -> Workspace:
        """Return the folder's workspace, its journal opened at the first time."""
        if root not in self._workspaces:
            journal = Journal(journal_path(state_dir(), root))
            journal.close_open_runs()
            buffers = FolderBuffers(self._documents, root)
            self._workspaces[root] = made = Workspace(root, journal, buffers, Index(root))
            made.pending = lambda: self._reviews.of(made.resolver.root)
        return self._workspaces[root]

    def restore(self, root: Path, run: str = "") -> None:
        """Take in proposals that an earlier process, or another one, made: those that are open, or one run's."""
        self.restorer.restore(self.workspace(root), root, run)

    def moved(self, old: Path, new: Path) -> None:
        """Have the runs that are going on know of a file's new name."""
        for root, workspace in self._workspaces.items():
            if old.is_relative_to(root) and new.is_relative_to(root):
                for overlay in workspace.working.values():
                    overlay.moved_below(old.relative_to(root).as_posix(), new.relative_to(root).as_posix())

    def warm(self, roots: list[Path]) -> None:
        """Begin to index the folders, where the model is one that is shown what the index finds."""
        if self.model_name != "builtin":
            for root in roots[:WARMED_MAX]:
                index = self.workspace(root).index
                if index is not None:
                    index.warm()

    def revise(self, entry: Entry, revision: Revision, uri: str) -> Run:
        """Send a hunk back with a word: a run in its session, whose hunks take its place."""
        item = revision.found
        task = Task(revision.text, file=item.path, history=revision.history, about=revision.about)
        session = entry.proposal.session
        workspace = self.workspace(entry.root)
        self.check_free(session)
        model = self.pool.get(self.model_name)
        known = session if workspace.journal.of_session(session) else ""
        run = workspace.new_run(task, model, self.config, known, revision)
        return self._go(run, Active(run, workspace, uri), model)

    def start(self, root: Path, task: Task, *, uri: str, session: str, confirm: str = "") -> Run:
        """Start a run and return at once; `confirm` is a question that the user must say yes to first."""
        self.check_free(session)
        workspace = self.workspace(root)
        model = self.pool.get(self.model_name)
        if session and not workspace.journal.of_session(session):
            raise UsageError(f"There is no session {session!r} in this folder.")
        run = workspace.new_run(task, model, self.config, session)
        return self._go(run, Active(run, workspace, uri, confirm=confirm, line=(task.directive_line or 1) - 1), model)

    def start_in_background(self, root: Path, task: Task, session: str) -> Run:
        """Hand a run to a worker that outlives this server, and follow it."""
        self.check_free(session)
        workspace = self.workspace(root)
        run = workspace.new_run(task, self.pool.get(self.model_name), self.config, session)
        order = orders.order(workspace.resolver.root, run, run.config)
        if workspace.buffers is not None:
            order.buffers = orders.unsaved(workspace.buffers, workspace.resolver.root)
        orders.start(order)
        self.following.expect(root, run.id)
        return run

    def _ended_elsewhere(self, root: Path, run: str) -> tuple[str, str]:
        """Take in what a background run proposed; returns what is to be said of it, and its state in the journal."""
        self.restore(root, run)
        rows = {row.run: row.state for row in self.workspace(root).journal.runs()}
        entry = self._reviews.entries.get(run)
        if entry is None:
            return "", rows.get(run, "running")
        self.on_proposal(run)
        items = entry.proposal.items
        return proposed(len(items), len({item.path for item in items})), rows.get(run, "proposed")

    def _go(self, run: Run, active: Active, model: Model) -> Run:
        active.token = f"redline-{run.id}-{len(self._active)}" if run.resumed else f"redline-{run.id}"
        self._active[run.id] = active
        active.task = asyncio.create_task(self._drive(active, model), name=run.id)
        active.task.add_done_callback(lambda _task: self._over(active))
        self._client.notify("redline/status", self.status())
        self._forget_old()
        return run

    def check_free(self, session: str) -> None:
        """Raise UsageError when too many runs are going on, or one in that session."""
        going = [active.run for active in self._active.values() if active.task and not active.task.done()]
        if len(going) >= RUNS_AT_ONCE_MAX:
            raise UsageError(f"{len(going)} runs are going on already.", hint="Wait for one, or cancel one.")
        if session and any(run.session == session and run.proposal is None for run in going):  # else it is ending
            raise UsageError(f"A run of {session} is going on.", hint="Steer it, wait for it, or cancel it.")

    def resume(self, root: Path, session: str) -> Run:
        """Go on with the run of a session that was cut off; raises UsageError when there is none."""
        workspace = self.workspace(root)
        row = workspace.cut_off(session)
        if (revised := workspace.revises(row.run)) and revised not in self._reviews.entries:
            self.restore(root, revised)  # it goes on from a proposal of before
        self.check_free(row.session)
        run = workspace.resume(row, self.config)
        return self._go(run, Active(run, workspace, ""), self.pool.get(run.model))

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
            lambda question: self._waiting(active, self.questions.leave(run.id, question, active.uri, active.line)),
            lambda question: self._waiting(active, self.questions.words(run.id, question, active.uri, active.line)),
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
            await events.aclose()
            run.state, run.answer = "failed", f"Redline failed: {error}"

    async def _confirmed(self, active: Active) -> bool:
        question = self.questions.confirmed(active.run.id, active.confirm, active.uri, active.line)
        return await self._waiting(active, question)

    async def _waiting(self, active: Active, question: Awaitable[Got]) -> Got:
        """Wait for an answer; meanwhile the run is seen to wait."""
        run = active.run
        run.state = "waiting"
        self._client.notify("redline/status", self.status())
        try:
            return await question
        finally:
            if run.state == "waiting":
                run.state = "running"

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
            case Failed():
                self._client.show(f"Redline: {one_line(event.message, 300)}", error=True)
            case Retrying():
                self._doing(active, f"{event.reason} Trying again in {event.wait_s:.0f} s")
            case Proposed() if active.run.proposal:
                self._take(active, active.run.proposal)
            case _:
                pass
        if self._client.own and not isinstance(event, Proposed):
            self._client.notify("redline/session", {"runId": active.run.id, "event": event.model_dump(mode="json")})

    def _take(self, active: Active, proposal: Proposal) -> None:
        """Take a proposal in: as one of its own, or in the place of what it revises."""
        revision = active.run.revision
        if revision is not None:
            self._reviews.refresh()
            if active.workspace.revised(active.run):
                self.on_proposal(revision.proposal.run)
                return
            if active.run.proposal is None:  # nothing is left of it
                return
        self._reviews.add(proposal, active.workspace.resolver)
        self.on_proposal(active.run.id)

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
        self._client.show(closing(run), error=run.state in ("failed", "refused", "limit"))
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
        if self.following.going_on(run):
            self.following.cancel(run)
            return True
        task = self.get(run).task
        return bool(task and not task.done() and task.cancel())

    async def steer(self, run: str, text: str) -> None:
        """Put words of the user before a run's next turn; raises RedlineError."""
        followed = self.following.going_on(run)
        if followed is None:
            self.get(run).run.steer(text)
            return
        said = await self.following.tell(followed, {"do": "steer", "text": text})
        if said is None or "error" in said:
            raise RedlineError(str(said["error"]) if said else "The background run does not answer.")

    def cancel_token(self, token: str | int) -> None:
        """Cancel the run of a progress token."""
        background = self.following.by_token(token)
        if background is not None:
            self.cancel(background)
        for active in self._active.values():
            if active.token == token:
                self.cancel(active.run.id)

    def describe(self, run: str | None) -> list[dict[str, Any]]:
        """Return runs in the shape of `redline.runs`, newest last."""
        background = self.following.describe(run)
        if run and background:
            return background
        wanted = [self.get(run)] if run else list(self._active.values())
        return [*(described(active.run, active.uri, self.questions.pending.values()) for active in wanted), *background]

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
        await self.following.close()
        await self.pool.close()
        for workspace in self._workspaces.values():
            await workspace.close()
            workspace.journal.close()
