"""One session over one workspace folder: from a task to its proposal, every step in the journal.

This is the runtime's composition root. It knows no editor: open documents come in as `Buffers`, events go out.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tomllib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redline_agent.config import Config, state_dir, tighten
from redline_agent.context.gather import Task, gather
from redline_agent.errors import JournalError, LimitReached, RedlineError
from redline_agent.events import (
    Durable,
    Event,
    HunksDecided,
    OutcomeState,
    Proposed,
    RunEnded,
    RunStarted,
    ToolFinished,
    Working,
)
from redline_agent.journal import Journal, new_id
from redline_agent.limits import Meter
from redline_agent.loop import Loop
from redline_agent.models.base import Model
from redline_agent.prompts.builder import build
from redline_agent.proving import prove
from redline_agent.safety.approvals import Asker, Memory, nobody
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.paths import Resolver
from redline_agent.safety.requests import Access, text_digest
from redline_agent.safety.rules import Rules, built_in_rules, tightened, with_permissions
from redline_agent.safety.secrets import Masks
from redline_agent.text import one_line, split_lines
from redline_agent.tools.registry import by_name, specs
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Buffers, Overlay
from redline_agent.workspace.proposal import Proposal
from redline_agent.workspace.proposing import propose
from redline_agent.workspace.stored import dump, load
from redline_agent.workspace.workbench import Workbench

logger = logging.getLogger(__name__)


def journal_path(state: Path, root: Path) -> Path:
    """Return the place of a workspace folder's journal, one file for each folder."""
    key = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    return state / "journals" / f"{root.name or 'root'}-{key}.sqlite"


@dataclass(slots=True)
class Run:
    """A run that is going on, or has ended: what `redline.runs` tells of it."""

    id: str
    session: str
    task: Task
    model: str
    meter: Meter
    state: str = "running"
    answer: str = ""
    limit: str = ""
    doing: str = ""
    refusals: list[str] = field(default_factory=list[str])
    proposal: Proposal | None = None
    loop: Loop | None = field(default=None, repr=False)

    def steer(self, text: str) -> None:
        """Put words of the user before the next turn; raises RedlineError when the run has ended or too many wait."""
        if self.state != "running" or self.loop is None:
            raise RedlineError("The run has ended, so it cannot be steered.", hint="Start another one.")
        try:
            self.loop.steering.put_nowait(text)
        except asyncio.QueueFull:
            raise RedlineError("Too many words wait for this run already.") from None


class Workspace:
    """One workspace folder with its journal: makes runs, and keeps what was decided."""

    def __init__(self, root: Path, journal: Journal, buffers: Buffers | None = None) -> None:
        self.resolver = Resolver(root)
        self.journal = journal
        self.buffers = buffers
        self.masks = Masks()
        self.memory = Memory(state_dir() / "permissions.json")
        self.rules: Rules = built_in_rules()

    @property
    def trusted(self) -> bool:
        """Whether the user trusts the folder: before that nothing of it runs."""
        return self.memory.standing(self.resolver.root, "").trusted

    def new_run(self, task: Task, model: Model, config: Config, session: str = "") -> Run:
        """Return a run that has not begun."""
        config = tighten(config, own_settings(self.resolver))
        self.rules = tightened(with_permissions(built_in_rules(), config.permissions), config.denied)
        return Run(new_id("run"), session or new_id("session"), task, model.name, Meter(config.limits))

    async def carry_out(self, run: Run, model: Model, ask: Asker = nobody) -> AsyncGenerator[Event]:
        """Carry a run out, to its RunEnded; the journal has one even when the caller cancels. The model stays open.

        `ask` is how the person is asked for what is not allowed by itself; without one that is denied.
        """
        try:
            async for event in self._carry_out(run, model, ask):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            if run.state == "running":
                self._end(run, "cancelled", "Cancelled.")
            raise
        except JournalError as error:
            run.state, run.answer = "failed", str(error)
            yield RunEnded(state="failed", answer=str(error))
        except LimitReached as error:
            yield self._end(run, "limit", str(error), error.limit)
        except RedlineError as error:
            yield self._end(run, "failed", str(error))
        except Exception as error:
            logger.exception("A run failed by a mistake of Redline's own")
            yield self._end(run, "failed", f"Redline failed: {type(error).__name__}: {one_line(str(error))}")

    async def _carry_out(self, run: Run, model: Model, ask: Asker) -> AsyncIterator[Event]:
        overlay = Overlay(self.resolver, self.buffers)
        root = self.resolver.root
        keeper = Keeper(self.rules, root, run.id, run.session, self.memory, ask)
        bench = Workbench(overlay, keeper, state_dir() / "scratch" / run.id)
        try:
            async for event in self._steps(run, model, overlay, keeper, bench):
                yield event
        finally:
            await bench.close()

    async def _steps(
        self, run: Run, model: Model, overlay: Overlay, keeper: Keeper, bench: Workbench
    ) -> AsyncIterator[Event]:
        prompt = build(specs(), {"folder": self.resolver.root.name, "date": datetime.now(UTC).date().isoformat()})
        history: list[Durable] = [event for _, event in self.journal.of_session(run.session)]
        started = RunStarted(
            instruction=self.masks.masked(run.task.instruction),
            content=gather(run.task, overlay, keeper, self.masks),
            model=model.name,
            prompt_digest=prompt.digest,
            layers=prompt.layers,
        )
        self._record(run, started)
        yield started
        _remove_directive(run.task, overlay, keeper)
        run.loop = Loop(
            model,
            prompt,
            by_name(),
            keeper,
            overlay,
            run.meter,
            [*history, started],
            lambda event: self._record(run, event),
            masks=self.masks,
            workbench=bench,
        )
        keeper.taint = run.loop.taint
        async for event in run.loop.run():
            if isinstance(event, ToolFinished) and event.result.error:
                run.refusals.append(event.summary)
            yield event
        if run.loop.refused:
            yield self._end(run, "refused", run.loop.answer)
            return
        yield Working(text="Proving the proposal")
        proof = await prove(overlay)
        run.proposal = propose(
            overlay,
            run=run.id,
            session=run.session,
            instruction=run.task.instruction,
            rules=self.rules,
            proof=proof,
            notes=run.refusals,
        )
        if not run.proposal.items:
            run.proposal = None
            yield self._end(run, "answered", run.loop.answer)
            return
        proposed = Proposed(proposal=dump(run.proposal))
        self._record(run, proposed)
        yield proposed
        yield self._end(run, "proposed", run.loop.answer)

    def _record(self, run: Run, event: Durable) -> None:
        self.journal.append(run.session, run.id, event)

    def _end(self, run: Run, state: OutcomeState, answer: str, limit: str = "") -> RunEnded:
        run.state, run.answer, run.limit = state, answer, limit
        meter = run.meter
        ended = RunEnded(
            state=state,
            answer=answer,
            limit=limit,
            turns=meter.turns,
            tokens=meter.tokens,
            cost_usd=meter.cost_usd,
        )
        self._record(run, ended)
        return ended

    def decided(self, run_id: str, session: str, state: str, items: list[str]) -> None:
        """Put the user's decision into the journal."""
        if items:
            self.journal.append(session, run_id, HunksDecided(state=state, hunks=tuple(items)))

    def proposals(self) -> list[Proposal]:
        """Return every proposal of the journal that still has something open, oldest first, decisions applied."""
        found: dict[str, Proposal] = {}
        for run_id, event in self.journal.of_type("proposed"):
            if isinstance(event, Proposed) and event.proposal:
                found[run_id] = load(event.proposal)
        for run_id, event in self.journal.of_type("decided"):
            if isinstance(event, HunksDecided) and run_id in found:
                _apply_decision(found[run_id], event)
        return [proposal for proposal in found.values() if proposal.open]


def own_settings(resolver: Resolver) -> dict[str, Any]:
    """Return the workspace's own `.redline/config.toml`, {} when it has none that can be read. It may only tighten."""
    try:
        return tomllib.loads((resolver.read_bytes(".redline/config.toml") or b"").decode("utf-8"))
    except (RedlineError, ValueError):
        return {}


def _apply_decision(proposal: Proposal, event: HunksDecided) -> None:
    """Bring a loaded proposal to where the decision left it; accepted hunks are in the text from then on."""
    taken = set(event.hunks)
    for review in proposal.files.values():
        ids = [hunk.id for hunk in review.hunks if hunk.id in taken]
        if event.state == "accepted" and ids:
            review.follow(review.sending(ids))
        elif event.state == "undone" and ids:
            review.follow(review.reverting(ids))
        for hunk in review.hunks:
            if hunk.id in taken:
                hunk.state = event.state  # pyright: ignore[reportAttributeAccessIssue]  the journal's own word
    for operation in proposal.operations:
        if operation.id in taken and operation.kind == "rename":
            if event.state == "accepted":
                proposal.renamed(operation)
            elif event.state == "undone":
                proposal.renamed(replace(operation, path=operation.new_path, new_path=operation.path))
        if operation.id in taken:
            operation.state = event.state  # pyright: ignore[reportAttributeAccessIssue]  as above


def _remove_directive(task: Task, overlay: Overlay, keeper: Keeper) -> None:
    """The comment that asked for the run goes with the proposal."""
    if task.directive_line is None or not task.file:
        return
    seen = overlay.find(task.file)
    lines = split_lines(seen.file.text) if seen else []
    at = task.directive_line - 1
    if seen is None or not 0 <= at < len(lines):
        return
    reason = f"the directive is done: {one_line(task.instruction, 60)}"
    text = "".join(lines[:at] + lines[at + 1 :])
    permit = keeper.permit(Access("write", task.file, content=text_digest(text)))
    overlay.write(task.file, text, Origin(0, "", "directive", reason), permit)
