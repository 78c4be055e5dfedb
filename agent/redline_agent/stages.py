"""One run's stages: gather, plan where the task is large, execute, prove, have it validated, propose.

Each stage leaves its events in the journal, and finds them there again when a run that was cut off goes on: replies are
followed and never asked for again, edits are laid over the files as they were, children that had ended are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from redline_agent import asking
from redline_agent.children import Means
from redline_agent.context.gather import gather
from redline_agent.context.view import Conversation
from redline_agent.errors import UsageError
from redline_agent.events import (
    Compacted,
    Durable,
    Edited,
    Event,
    Failed,
    ModelChanged,
    Proposed,
    ReplyReceived,
    Resumed,
    Retrying,
    RunEnded,
    RunStarted,
    Said,
    ToolFinished,
    ToolStarted,
    TurnStarted,
    Working,
)
from redline_agent.frame import Frame
from redline_agent.judging import next_step, planned, validated
from redline_agent.limits import RESULT_CHARS_MAX
from redline_agent.loop import Loop
from redline_agent.messages import REDLINE, Label, Text
from redline_agent.models.base import Model
from redline_agent.roles.roles import role
from redline_agent.safety.labels import CLEAN, Taint, join
from redline_agent.text import clip
from redline_agent.workspace.aftermath import became
from redline_agent.workspace.kept import Watcher, restore
from redline_agent.workspace.laying import without_directive
from redline_agent.workspace.meeting import brought_up_to_date
from redline_agent.workspace.proposal import ProofItem, Proposal
from redline_agent.workspace.proposing import propose
from redline_agent.workspace.revising import named
from redline_agent.workspace.stored import dump

_VALIDATOR, _PROOF = "the validator", "the proof"
_MEND = "The proof of your change found what follows. Mend what your change broke, then finish again."
PROPOSALS_TOLD_MAX = 3
"""Of how many earlier proposals of its session a run is told what became."""
AFTERMATH_CHARS_MAX = {"standard": 6_000, "small": 1_200}
MENDS_MAX = 2
"""How often the executor is told what the proof of its change found."""


@dataclass(slots=True)
class Stages:
    """One run, from its task to its proposal."""

    means: Means

    async def carry_out(self, model: Model) -> AsyncIterator[Event]:
        """Yield the run's events up to its proposal or answer; raises RedlineError."""
        means, run = self.means, self.means.run
        await model.ready()
        before = means.workspace.journal.of_session(run.session)
        conversation = Conversation.of(event for _, event in before)
        own = [event for ident, event in before if ident == run.id] if run.resumed else []
        for event in self._again(own) if run.resumed else await self._begin(model):
            if not run.resumed:
                conversation.add(event)
            yield event
        model = self._model_now(model, own)
        await model.ready()
        frame = means.frame("executor", run.session, run.id, conversation, model, run.meter)
        run.frame = frame
        means.keeper.taint = frame.taint
        frame.given = join(self._given_by_children() if run.resumed else CLEAN, self._given_by_servers())
        frame.begun = frozenset(event.call.id for event in own if isinstance(event, ToolStarted))
        if means.workspace.problem:
            yield frame.keep(Failed(what="settings", message=means.workspace.problem))
        for note in means.outside.notes:
            yield frame.keep(Failed(what="mcp", message=means.workspace.masks.masked(note)))
        async for event in planned(means, frame, worked=any(isinstance(each, ReplyReceived) for each in own)):
            yield event
        frame.next_step = lambda summary: next_step(frame, summary)
        _recall(frame, own)
        async for event in self._work(frame, rounds=sum(_by_validator(each) for each in own)):
            yield event

    async def _work(self, frame: Frame, rounds: int) -> AsyncIterator[Event]:
        """Execute, prove, validate, until it passes; then propose."""
        run, loop = self.means.run, Loop(frame)
        mended = sum(_by_proof(each) for each in self.means.workspace.journal.of_run(run.id)) if run.resumed else 0
        resumed = run.resumed
        while True:
            if not frame.answer:
                async for event in loop.run(resumed=resumed):
                    if isinstance(event, ToolFinished) and event.result.error:
                        run.refusals.append(event.summary)
                    yield event
            run.answer = frame.answer
            if loop.refused:
                run.state = "refused"
                return
            yield Working(text="Proving the proposal")
            proposal = self._proposal()
            proposal.proof = await self.means.prover.prove()
            findings = self._broken(frame, proposal.proof, mended)
            if findings:
                mended += 1
                yield frame.keep(Said(text=Text(text=_MEND, label=REDLINE)))
                yield frame.keep(Said(text=Text(text=findings, label=Label(source="command", detail=_PROOF))))
                frame.answer, resumed = "", False
                continue
            async for event in validated(self.means, frame, proposal, rounds):
                if isinstance(event, str):
                    findings = event
                else:
                    yield event
            if not findings:
                break
            yield frame.keep(Said(text=Text(text=findings, label=frame.made_by(_VALIDATOR))))
            frame.answer, resumed, rounds = "", False, rounds + 1
        if proposal.items or run.revision is not None:
            run.proposal = proposal
            proposed = Proposed(proposal=dump(proposal))
            self._record(proposed)
            yield proposed

    def _broken(self, frame: Frame, proof: list[ProofItem], mended: int) -> str:
        """Return what the proof found to be broken, for the executor; "" when it is not told (any more)."""
        wrong = [item for item in proof if item.ok is False]
        if not wrong or mended >= MENDS_MAX or not frame.model.capabilities.mends:
            return ""
        lines = [f"- {item.check}{f' of {item.path}' if item.path else ''}: {item.detail}" for item in wrong]
        return clip(self.means.workspace.masks.masked("\n".join(lines)), RESULT_CHARS_MAX)

    def _proposal(self) -> Proposal:
        run = self.means.run
        return propose(
            self.means.overlay,
            run=run.id,
            session=run.session,
            instruction=run.task.instruction,
            rules=self.means.workspace.rules,
            proof=[],
            notes=run.refusals,
        )

    def _record(self, *events: Durable) -> None:
        self.means.workspace.journal.append(self.means.run.session, self.means.run.id, *events)

    # ---- starting, and starting again

    async def _begin(self, model: Model) -> list[Durable]:
        """Gather, and take the directive out that asked for the run."""
        means, run = self.means, self.means.run
        can = model.capabilities
        watcher = Watcher(means.overlay)
        revision = run.revision
        if revision is not None:
            file, lines = revision.lay(means.overlay, means.keeper)
            run.task = replace(run.task, file=file, lines=lines)
        known = self._aftermath(AFTERMATH_CHARS_MAX[can.profile])
        task = replace(run.task, history="\n\n".join(filter(None, [run.task.history, known])))
        content = await gather(
            task, means.overlay, means.keeper, means.workspace.masks, index=means.workspace.index, capabilities=can
        )
        run.shown = _files(content)
        prompt, _ = means.fit(role("executor"), model)
        started = RunStarted(
            instruction=means.workspace.masks.masked(run.task.instruction),
            content=content,
            model=model.name,
            prompt_digest=prompt.digest,
            layers=prompt.layers,
            profile=can.profile,
            flags=dict(means.config.flags),
            key=revision.key if revision else "",
            laid=tuple(sorted(revision.laid)) if revision else (),
        )
        if run.task.directive_line is not None and run.task.file:
            line, words = run.task.directive_line - 1, run.task.instruction
            without_directive(means.overlay, means.keeper, run.task.file, line, words)
        files, seen = watcher.changes(means.workspace.journal.keep_text)
        events: list[Durable] = [started, *([Edited(files=files, seen=seen)] if files else [])]
        self._record(*events)
        return events

    def _aftermath(self, chars_max: int) -> str:
        """What became of what this session proposed last, for the agent to go on from."""
        run, journal = self.means.run, self.means.workspace.journal
        past = journal.of_session(run.session)
        merged = {ident for ident, event in past if isinstance(event, RunStarted) and named(event.key)[0]}
        proposing = [ident for ident, event in past if isinstance(event, Proposed) and ident not in merged]
        said: list[str] = []
        for ident in list(dict.fromkeys(proposing))[-PROPOSALS_TOLD_MAX:]:
            for proposal in self.means.workspace.every_proposal(ident).values():
                brought_up_to_date([proposal], self.means.overlay, every=True)
                own = run.revision is not None and run.revision.proposal.run == ident
                said.append(became(proposal, run.revision.item if own and run.revision else ""))
        return clip("\n\n".join(filter(None, said)), chars_max)

    def _again(self, own: list[Durable]) -> list[Durable]:
        """Bring overlay and meter to where the run was cut off."""
        means, meter = self.means, self.means.run.meter
        resumed = Resumed()
        self._record(resumed)
        means.run.shown = next((_files(event.content) for event in own if isinstance(event, RunStarted)), ())
        edits = [(event.files, event.seen) for event in own if isinstance(event, Edited)]
        restore(means.overlay, edits, means.workspace.journal.text)
        meter.turns = sum(isinstance(event, ReplyReceived) for event in own)
        self._pay_again(own)
        for session in means.workspace.journal.children(means.run.id):
            self._pay_again([event for _, event in means.workspace.journal.of_session(session)])
        return [resumed]

    def _pay_again(self, events: list[Durable]) -> None:
        """Count what was paid before the cut; where a price is not known, the most that it may be."""
        meter, model = self.means.run.meter, ""
        for event in events:
            if isinstance(event, TurnStarted):
                model = event.model
            if isinstance(event, ReplyReceived | Retrying | Compacted):
                usage = event.reply.usage if isinstance(event, ReplyReceived) else event.usage
                known = event.cost_usd is not None or not usage.total
                bound = event.cost_usd or 0.0
                if not known and model:
                    bound = self.means.pool.get(model).bound_usd(usage)
                meter.add(usage.total, bound, known=known)

    def _model_now(self, model: Model, own: list[Durable]) -> Model:
        """The model that was going on with the run when it was cut off."""
        changed = [event.model for event in own if isinstance(event, ModelChanged)]
        return self.means.pool.get(changed[-1]) if changed and changed[-1] != model.name else model

    def _given_by_servers(self) -> Taint:
        """What servers say of their tools is in the prompt, and it is not the user's."""
        return Taint(("the tools of MCP servers",)) if self.means.outside.tools else CLEAN

    def _given_by_children(self) -> Taint:
        journal = self.means.workspace.journal
        events = [[event for _, event in journal.of_session(each)] for each in journal.children(self.means.run.id)]
        return join(*(Conversation.of(each).taint for each in events))


async def compacted(means: Means, model: Model) -> Compacted:
    """Fold a session's past into a summary on the user's word; raises UsageError when there is nothing to fold."""
    run, journal = means.run, means.workspace.journal
    conversation = Conversation.of(event for _, event in journal.of_session(run.session))
    if not conversation.exchanges:
        raise UsageError(f"{run.session} has no replies, so there is nothing to fold.")
    frame = means.frame("executor", run.session, run.id, conversation, model, run.meter)
    async for event in asking.compact(frame, forced=True, strict=False):
        if isinstance(event, Compacted):
            return event
    raise UsageError(f"{run.session} could not be made smaller.")


def _files(content: tuple[Text, ...]) -> tuple[str, ...]:
    """The files that a run is shown in its first message."""
    return tuple(dict.fromkeys(each.label.detail for each in content if each.label.source == "workspace"))


def _by_proof(event: Durable) -> bool:
    return isinstance(event, Said) and event.text.label.detail == _PROOF


def _by_validator(event: Durable) -> bool:
    return isinstance(event, Said) and event.text.label.detail == _VALIDATOR


def _recall(frame: Frame, own: list[Durable]) -> None:
    """Find the answer of a run that had finished but was cut off before its proposal."""
    passing = (TurnStarted, Resumed, RunEnded, Edited, Proposed, Failed)
    last = next((event for event in reversed(own) if not isinstance(event, passing)), None)
    exchange, plan = frame.conversation.exchange, frame.conversation.plan
    if not isinstance(last, ToolFinished) or exchange is None or exchange.open_calls:
        return
    if plan is not None and plan.stepwise and any(step.state in ("open", "doing") for step in plan.steps):
        return
    for call in exchange.calls:
        if call.name == "finish" and not exchange.results[call.id].error:
            frame.answer = exchange.results[call.id].text or "Done."
