"""One session over one workspace folder: from a task to its proposal, every step in the journal.

This is the runtime's composition root. It knows no editor: open documents come in as `Buffers`, events go out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from redline_agent import decisions
from redline_agent.children import Means, People, Words, nobody_there
from redline_agent.config import Config, state_dir, tighten
from redline_agent.context.estimate import PAIRS_MAX, Calibration, Pair, calibrate
from redline_agent.context.gather import Task, task_of
from redline_agent.context.index import Index
from redline_agent.elsewhere import Elsewhere
from redline_agent.errors import JournalError, LimitReached, RedlineError, ReviewError, UsageError
from redline_agent.events import (
    Accepting,
    Compacted,
    Event,
    HunksDecided,
    OutcomeState,
    Planned,
    Proposed,
    ReplyReceived,
    RunEnded,
    RunStarted,
    TurnStarted,
)
from redline_agent.frame import Frame
from redline_agent.history import counts_of
from redline_agent.journal import Journal, RunRow, new_id
from redline_agent.limits import Meter
from redline_agent.models.base import Model
from redline_agent.models.names import default_model
from redline_agent.models.pool import Pool
from redline_agent.proof.partial import overlays
from redline_agent.proof.prove import Prover, Wishes
from redline_agent.proof.servers import Servers
from redline_agent.safety.approvals import Asker, Memory, nobody
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.paths import Resolver
from redline_agent.safety.rules import Rules, built_in_rules, tightened, with_permissions
from redline_agent.safety.secrets import Masks
from redline_agent.stages import Stages, compacted
from redline_agent.text import one_line
from redline_agent.tools.base import Symbols
from redline_agent.workspace.lease import lease_of, leased
from redline_agent.workspace.meeting import Meetings, brought_up_to_date
from redline_agent.workspace.overlay import Buffers, Overlay
from redline_agent.workspace.proposal import ACCEPTED, Proposal
from redline_agent.workspace.revising import Revision, apart, merge, named
from redline_agent.workspace.settings import own_settings
from redline_agent.workspace.stored import dump
from redline_agent.workspace.workbench import Workbench

_BECAME = {"revised": "was revised", "withdrawn": "was withdrawn", "same": "stays as it is"}
RESUMABLE = ("interrupted", "cancelled", "failed", "limit")
"""Ends after which a run can go on: its process died, or it was stopped by somebody or something."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """A run that is going on, or has ended: what `redline.runs` tells of it."""

    id: str
    session: str
    task: Task
    model: str
    meter: Meter
    config: Config = field(default_factory=Config, repr=False)
    state: str = "running"
    answer: str = ""
    limit: str = ""
    doing: str = ""
    refusals: list[str] = field(default_factory=list[str])
    proposal: Proposal | None = None
    frame: Frame | None = field(default=None, repr=False)
    resumed: bool = False
    became: str = ""
    """What a revision came to."""
    revision: Revision | None = field(default=None, repr=False)
    shown: tuple[str, ...] = ()
    steering: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(maxsize=32), repr=False)

    @property
    def plan(self) -> Planned | None:
        """The plan as it is now, None when there is none."""
        return self.frame.conversation.plan if self.frame else None

    def steer(self, text: str) -> None:
        """Put words of the user before the next turn; raises RedlineError when the run has ended or too many wait."""
        if self.state not in ("running", "waiting"):
            raise RedlineError("The run has ended, so it cannot be steered.", hint="Start another one.")
        try:
            self.steering.put_nowait(text)
        except asyncio.QueueFull:
            raise RedlineError("Too many words wait for this run already.") from None


class Workspace:
    """One workspace folder with its journal: makes runs, and keeps what was decided."""

    def __init__(
        self, root: Path, journal: Journal, buffers: Buffers | None = None, index: Index | None = None
    ) -> None:
        self.resolver = Resolver(root)
        self.journal = journal
        self.buffers = buffers
        self.index = index
        self.masks = Masks()
        self.memory = Memory(state_dir() / "permissions.json")
        self.rules: Rules = built_in_rules()
        self.servers = Servers(state_dir() / "scratch" / f"servers-{os.getpid()}-{secrets.token_hex(4)}")
        self.pending: Callable[[], Iterable[Proposal]] | None = None
        """What waits for a decision, where a server keeps that; else it is read from the journal."""
        self.working: dict[str, Overlay] = {}
        self.problem = ""
        """What is wrong with the folder's own settings."""
        self._pairs: dict[str, deque[Pair]] = {}

    @property
    def trusted(self) -> bool:
        """Whether the user trusts the folder: before that nothing of it runs."""
        return self.memory.standing(self.resolver.root, "").trusted

    def calibration(self, model: str) -> Calibration:
        """Return how a model's tokens relate to what is counted, from what its replies reported here."""
        return calibrate(self._known(model))

    def _known(self, model: str) -> deque[Pair]:
        if model not in self._pairs:
            self._pairs[model] = deque(counts_of(self.journal, model), maxlen=PAIRS_MAX)
        return self._pairs[model]

    def symbols(self, overlay: Overlay) -> Symbols | None:
        """Return what the index knows of definitions, as the overlay has them."""
        return self.index.over(overlay) if self.index else None

    def meetings(self, run: Run, overlay: Overlay) -> Callable[[], list[str]]:
        """Return what tells a run, each thing once, who else changes the same text; what it revises is its own."""
        elsewhere = Elsewhere(self.journal, self.resolver)
        pending = self.pending or (lambda: brought_up_to_date(elsewhere.pending(self.every_proposal), overlay))
        own = frozenset((run.id, run.revision.proposal.run)) if run.revision else frozenset((run.id,))
        return Meetings(own, overlay, lambda: {**elsewhere.overlays(self.working), **self.working}, pending).news

    def new_run(
        self, task: Task, model: Model, config: Config, session: str = "", revision: Revision | None = None
    ) -> Run:
        """Return a run that has not begun; with a revision it goes on from a hunk of another run's proposal."""
        config = self._tightened(config)
        run = Run(new_id("run"), session or new_id("session"), task, model.name, Meter(config.limits), config)
        run.revision = revision
        return run

    def revised(self, run: Run) -> bool:
        """Let what a revision made take its place in the proposal that it went on from; the texts are those of now.

        False when the item was decided on since: then the run's proposal is one of its own.
        """
        revision, made = run.revision, run.proposal
        if revision is None or made is None:
            return False
        before = [item.id for item in made.items]
        try:
            outcome = merge(revision, made)
        except ReviewError:
            apart(revision, made)
            run.revision = None
            run.proposal = made if made.items else None
            self.keep(made)
            return False
        kept = revision.proposal
        run.proposal = None if outcome == "same" else kept
        self.decided(run.id, run.session, "revised", before)  # they are the other proposal's from now on
        if outcome != "same":
            self.keep(kept)
        run.became = f"{revision.item} {_BECAME[outcome]}"
        return True

    def keep(self, proposal: Proposal) -> None:
        """Have the journal hold a proposal as it is now, with what others have decided on it."""
        self.decided_elsewhere(proposal)
        self.journal.append(proposal.session, proposal.run, Proposed(proposal=dump(proposal)))

    def _tightened(self, config: Config) -> Config:
        given, self.problem = own_settings(self.resolver)
        config = tighten(config, given)
        self.rules = tightened(with_permissions(built_in_rules(), config.permissions), config.denied)
        return config

    def cut_off(self, session: str = "") -> RunRow:
        """Return the newest run that was cut off, of a session or of any; raises UsageError when there is none."""
        copies = {str(row[0]) for row in self.journal.rows("SELECT session FROM event WHERE type = 'copied'")}
        rows = [row for row in self.journal.runs() if not session or session in (row.session, row.run)]
        if session and not rows:
            raise UsageError(f"There is no session {session!r} in this folder.", hint="`redline sessions` lists them.")
        found = next((row for row in rows if row.state in RESUMABLE and row.session not in copies), None)
        if found is None or found.session != next(row.session for row in rows if row.session == found.session):
            raise UsageError("No run here was cut off.", hint="`redline sessions` lists the runs.")
        return found

    def revises(self, run: str) -> str:
        """Return the run whose proposal a run revises, "" for none."""
        return next((named(e.key)[1] for e in self.journal.of_run(run) if isinstance(e, RunStarted)), "")

    def resume(self, row: RunRow, config: Config) -> Run:
        """Return a run that was cut off, to go on with; nothing that it was answered is asked for again."""
        newer = next(each for each in self.journal.runs() if each.session == row.session)
        if newer.run != row.run:
            raise UsageError(f"{row.run} is not the newest run of {row.session}.", hint="Start a new one there.")
        started = next(e for e in self.journal.of_run(row.run) if isinstance(e, RunStarted))
        config = self._tightened(config)
        task = task_of(started)
        run = Run(row.run, row.session, task, started.model, Meter(config.limits), config, resumed=True)
        item, of = named(started.key)
        live = self.pending() if self.pending and of else ()
        proposal = next((each for each in live if each.run == of), None)
        if proposal is None and of:
            proposal = self.every_proposal(of).get(of)
            brought_up_to_date([proposal] if proposal else [], Overlay(self.resolver, self.buffers), every=True)
        if proposal is not None:
            run.revision = Revision(proposal, item, started.instruction, laid=frozenset(started.laid))
        return run

    async def carry_out(
        self, run: Run, model: Model, ask: Asker = nobody, words: Words = nobody_there, pool: Pool | None = None
    ) -> AsyncGenerator[Event]:
        """Carry a run out, to its RunEnded; the journal has one even when the caller cancels. The model stays open.

        `ask` is how the person is asked for what is not allowed by itself; without one that is denied. `words` is how
        they are asked a question. Other models that the run needs come from `pool`.
        """
        own = pool or Pool(run.config.compatible)
        try:
            async for event in self._carry_out(run, model, People(ask, words), own):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            if run.state in ("running", "waiting"):
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
        finally:
            if pool is None:
                await own.close()

    async def _carry_out(self, run: Run, model: Model, people: People, pool: Pool) -> AsyncIterator[Event]:
        overlay = Overlay(self.resolver, self.buffers)
        keeper = Keeper(self.rules, self.resolver.root, run.id, run.session, self.memory, people.leave)
        bench = Workbench(overlay, keeper, state_dir() / "scratch" / run.id)
        means = Means(self, run, run.config, people, pool, overlay, keeper, bench,
                      self._prover(run.config, overlay, keeper, bench))  # fmt: skip
        stages = Stages(means)
        self.working[run.id] = overlay
        try:
            await means.outside.start(run.config.mcp, keeper, bench)
            sent: TurnStarted | None = None
            async for event in stages.carry_out(model):
                if isinstance(event, TurnStarted):
                    sent = event
                elif isinstance(event, ReplyReceived) and sent is not None:
                    usage = event.reply.usage
                    reported = usage.total - usage.output_tokens
                    self._known(sent.model).append((sent.raw_tokens, sent.expected_tokens, reported))
                yield event
        finally:
            del self.working[run.id]
            await means.outside.close()
            await bench.close()
        if run.state == "refused":
            yield self._end(run, "refused", run.answer)
        else:
            yield self._end(run, "proposed" if run.proposal else "answered", run.answer)

    async def compact(self, session: str, config: Config, pool: Pool) -> Compacted:
        """Fold a session's past into a summary; raises UsageError for one that is not there."""
        row = next((each for each in self.journal.runs() if each.session == session), None)
        if row is None:
            raise UsageError(f"There is no session {session!r} in this folder.", hint="`redline sessions` lists them.")
        run = Run(row.run, session, Task(row.instruction), row.model, Meter(config.limits), self._tightened(config))
        overlay = Overlay(self.resolver, self.buffers)
        keeper = Keeper(self.rules, self.resolver.root, run.id, session, self.memory)
        bench = Workbench(overlay, keeper, state_dir() / "scratch" / run.id)
        imported = self.journal.rows("SELECT 1 FROM event WHERE session = ? AND type = 'copied'", (session,))
        model = pool.get(config.model or default_model() if imported else row.model)  # a file names no model
        await model.ready()
        means = Means(self, run, run.config, People(), pool, overlay, keeper, bench,
                      self._prover(run.config, overlay, keeper, bench))  # fmt: skip
        return await compacted(means, model)

    def _prover(self, config: Config, overlay: Overlay, keeper: Keeper, bench: Workbench) -> Prover:
        wishes = Wishes(config.proof_tests, config.proof_seconds, config.proof_servers)
        return Prover(overlay, keeper, bench, self.servers, wishes)

    async def prove_accepted(self, proposal: Proposal, config: Config) -> None:
        """Prove what was accepted of a proposal, which holds the answer from then on."""
        after, before = overlays(proposal, self.resolver, self.buffers)
        keeper = Keeper(self.rules, self.resolver.root, proposal.run, proposal.session, self.memory)
        bench = Workbench(after, keeper, state_dir() / "scratch" / new_id(proposal.run))
        prover = self._prover(self._tightened(config), after, keeper, bench)
        prover.before = before
        for review in proposal.files.values():
            review.moved_since = False
        proposal.around_since = False
        try:
            found = await prover.prove()
        finally:
            await bench.close()
        kept = [item for item in proposal.proof if not item.check.startswith(ACCEPTED)]
        proposal.proof = [*kept, *(replace(item, check=ACCEPTED + item.check) for item in found)]
        proposal.revision += 1

    async def close(self) -> None:
        """End what was started for this folder: language servers, the index."""
        await self.servers.close()
        if self.index is not None:
            await self.index.close()

    def _end(self, run: Run, state: OutcomeState, answer: str, limit: str = "") -> RunEnded:
        run.state, run.answer, run.limit = state, answer, limit
        meter = run.meter
        ended = RunEnded(
            state=state,
            answer=answer,
            limit=limit,
            turns=meter.turns,
            tokens=meter.tokens,
            cost_usd=meter.spent_usd,
        )
        self.journal.append(run.session, run.id, ended)
        return ended

    def decided(self, run_id: str, session: str, state: str, items: list[str]) -> None:
        """Put the user's decision into the journal."""
        if items:
            self.journal.append(session, run_id, HunksDecided(state=state, hunks=tuple(items)))

    def proposals(self) -> list[Proposal]:
        """Return every proposal of the journal that still has something open, oldest first, decisions applied."""
        return [proposal for proposal in self.every_proposal().values() if proposal.open]

    def every_proposal(self, run: str = "") -> dict[str, Proposal]:
        """Return proposals by run; an accept that did not end is a dead process's when nobody decides now."""
        try:
            with leased(lease_of(self.journal.path), 0):
                return decisions.proposals(self.journal, run)
        except ReviewError:
            return decisions.proposals(self.journal, run, alive=True)

    def accepting(self, proposal: Proposal, items: Sequence[str]) -> str:
        """Write down what is about to be accepted, so that a crash can be told from what was done; returns a token."""
        token = secrets.token_hex(6)
        proposal.tokens |= dict.fromkeys(items, token)
        self.journal.append(proposal.session, proposal.run, Accepting(hunks=tuple(items), token=token))
        return token

    def settle(self, proposal: Proposal) -> None:
        """Find out what a process that died in mid-accept left of it, and write that down."""
        for state, items in decisions.settle(proposal, self.resolver).items():
            self.decided(proposal.run, proposal.session, state, items)

    def ended(self, proposal: Proposal, states: Sequence[str] = decisions.ENDS) -> None:
        """Write down which accepts have ended, and how."""
        for state, items in decisions.ended(proposal, self.resolver, states).items():
            self.decided(proposal.run, proposal.session, state, items)

    def lease(self) -> AbstractContextManager[object]:
        """Return the right to decide over this folder, for one process at a time; raises ReviewError after 10 s."""
        return leased(lease_of(self.journal.path))

    def decided_elsewhere(self, proposal: Proposal) -> list[str]:
        """Take over what another process decided on a proposal's open items since; returns their ids."""
        return decisions.take_over(proposal, decisions.states(self.journal, proposal))
