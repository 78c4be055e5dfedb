"""One run's stages: gather, plan where the task is large, execute, prove, have it validated, propose.

Each stage leaves its events in the journal, and finds them there again when a run that was cut off goes on. Roles that
work for the run (planner, validator, explorer) are children: sessions of their own, on the parent's budget.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redline_agent.config import Config
from redline_agent.context.gather import gather
from redline_agent.context.view import Conversation, plan_text
from redline_agent.errors import LimitReached, ModelError, RedlineError, ToolError
from redline_agent.events import (
    Durable,
    Edited,
    Event,
    Failed,
    ModelChanged,
    Planned,
    Proposed,
    ReplyReceived,
    Resumed,
    Retrying,
    RunEnded,
    RunStarted,
    Said,
    Step,
    ToolFinished,
    ToolStarted,
    TurnStarted,
    Working,
)
from redline_agent.frame import Frame
from redline_agent.journal import new_id
from redline_agent.limits import CHILDREN_AT_ONCE_MAX, CONTEXT_TOKENS_MAX, Meter
from redline_agent.loop import Loop
from redline_agent.messages import MODEL, USER, Label, Text
from redline_agent.models.base import Model
from redline_agent.models.names import light_model
from redline_agent.models.pool import Pool
from redline_agent.prompts.builder import Prompt, build
from redline_agent.proving import prove
from redline_agent.roles.roles import Role, role, why_plan
from redline_agent.safety.approvals import Asker, nobody
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import CLEAN, Taint, join
from redline_agent.text import clip, one_line
from redline_agent.tools.base import Outcome, Services, Tool
from redline_agent.tools.registry import by_name, specs
from redline_agent.workspace.diffs import diffs
from redline_agent.workspace.kept import Watcher, restore
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import ProofItem, Proposal
from redline_agent.workspace.proposing import propose
from redline_agent.workspace.stored import dump
from redline_agent.workspace.workbench import Workbench

if TYPE_CHECKING:
    from redline_agent.session import Run, Workspace

VALIDATIONS_MAX = 2
_DIFF_CHARS_MAX = 60_000
_REPLANS_MAX = 3
Words = Callable[[str], Awaitable[str | None]]


async def nobody_there(_question: str) -> str | None:
    """Answer nothing: there is no person."""
    return None


@dataclass(slots=True)
class People:
    """How the person is reached: for leave to do something, and for words."""

    leave: Asker = nobody
    words: Words = nobody_there


@dataclass(slots=True)
class Stages:
    """Everything that one run works with."""

    workspace: Workspace
    run: Run
    config: Config
    people: People
    pool: Pool
    overlay: Overlay
    keeper: Keeper
    bench: Workbench
    resumed: bool = False
    given: Taint = CLEAN
    children: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHILDREN_AT_ONCE_MAX))
    watched: list[str] = field(default_factory=list[str])

    # ---- the whole

    async def carry_out(self, model: Model) -> AsyncIterator[Event]:
        """Yield the run's events up to its proposal or answer; raises RedlineError."""
        run = self.run
        await model.ready()
        before = [event for _, event in self.workspace.journal.of_session(run.session)]
        conversation = Conversation.of(before)
        if self.resumed:
            async for event in self._found(before):
                yield event
        else:
            started = await self._start(model)
            self._record(run.session, run.id, started)
            conversation.add(started)
            yield started
            self.workspace.remove_directive(run.task, self.overlay, self.keeper)
        run.meter.turns = sum(isinstance(event, ReplyReceived) for event in self._own(before))
        frame = self._frame("executor", run.session, run.id, conversation, self._model_now(model, before), run.meter)
        run.frame = frame
        self.keeper.taint = frame.taint
        if self.resumed:
            frame.given = self._given_by_children(before)
        loop = Loop(frame)
        async for event in self._planned(frame, before):
            yield event
        frame.next_step = lambda summary: _next_step(frame, summary)
        proof: list[ProofItem] = []
        resumed = self.resumed
        _recall(frame, self._own(before))
        for rounds in range(VALIDATIONS_MAX + 1):
            if not frame.answer:
                async for event in loop.run(resumed=resumed):
                    if isinstance(event, ToolFinished) and event.result.error:
                        run.refusals.append(event.summary)
                    yield event
            if loop.refused:
                run.state, run.answer = "refused", frame.answer
                return
            yield Working(text="Proving the proposal")
            proof = await prove(self.overlay)
            findings = ""
            async for event in self._validated(frame, proof, rounds):
                if isinstance(event, str):
                    findings = event
                else:
                    yield event
            if not findings:
                break
            yield frame.keep(Said(text=Text(text=findings, label=Label(source="model", detail="the validator"))))
            frame.answer, resumed = "", False
        run.answer = frame.answer
        yield self._propose(proof)

    def _propose(self, proof: list[ProofItem]) -> Event:
        run = self.run
        proposal = propose(
            self.overlay,
            run=run.id,
            session=run.session,
            instruction=run.task.instruction,
            rules=self.workspace.rules,
            proof=proof,
            notes=run.refusals,
        )
        if not proposal.items:
            return Working(text="Nothing is proposed")
        run.proposal = proposal
        proposed = Proposed(proposal=dump(proposal))
        self._record(run.session, run.id, proposed)
        return proposed

    def _record(self, session: str, run: str, *events: Durable) -> None:
        self.workspace.journal.append(session, run, *events)

    # ---- starting, and starting again

    async def _start(self, model: Model) -> RunStarted:
        run = self.run
        prompt, _ = self._fit(role("executor"), model)
        can = model.capabilities
        self.workspace.journal.keep_prompt(prompt.digest, prompt.dump())
        content = await gather(run.task, self.overlay, self.keeper, self.workspace.masks,
                               index=self.workspace.index, capabilities=can)  # fmt: skip
        return RunStarted(
            instruction=self.workspace.masks.masked(run.task.instruction),
            content=content,
            model=model.name,
            prompt_digest=prompt.digest,
            layers=prompt.layers,
            profile=can.profile,
            flags=dict(self.config.flags),
        )

    def _own(self, events: list[Durable]) -> list[Durable]:
        """The events of this run: those since the last task of the session."""
        starts = [at for at, event in enumerate(events) if isinstance(event, RunStarted)]
        return events[starts[-1] :] if starts and self.resumed else []

    async def _found(self, before: list[Durable]) -> AsyncIterator[Event]:
        """Bring overlay and meter to where the run was cut off."""
        run, journal = self.run, self.workspace.journal
        resumed = Resumed()
        self._record(run.session, run.id, resumed)
        yield resumed
        self.workspace.remove_directive(run.task, self.overlay, self.keeper)
        own = self._own(before)
        edits = [(event.files, event.seen) for event in own if isinstance(event, Edited)]
        restore(self.overlay, edits, journal.text)
        for event in own:
            if isinstance(event, ReplyReceived):
                run.meter.add(event.reply.usage.total, event.cost_usd or 0.0, known=event.cost_usd is not None)
            elif isinstance(event, Retrying):
                run.meter.add(event.usage.total, event.cost_usd or 0.0)

    def _model_now(self, model: Model, before: list[Durable]) -> Model:
        """The model that was going on with the run when it was cut off."""
        changed = [event.model for event in self._own(before) if isinstance(event, ModelChanged)]
        return self.pool.get(changed[-1]) if changed and changed[-1] != model.name else model

    def _given_by_children(self, before: list[Durable]) -> Taint:
        keys = ("plan", *(f"validate-{n}" for n in range(VALIDATIONS_MAX + 1)))
        found = [self.workspace.journal.child(self.run.id, key) for key in keys]
        events = [[e for _, e in self.workspace.journal.of_session(each[0])] for each in found if each]
        return join(*(Conversation.of(each).taint for each in events)) if before else CLEAN

    # ---- frames

    def _fit(self, part: Role, model: Model) -> tuple[Prompt, dict[str, Tool[Any]]]:
        tools = by_name(part.tool_names(model.capabilities)) | (
            self.workspace.outside_tools if part.name == "executor" else {}
        )
        facts = {"folder": self.workspace.resolver.root.name, "date": datetime.now(UTC).date().isoformat()}
        prompt = build(part, model.capabilities.profile, specs(tools.values()), facts, flags=self.config.flags,
                       folder=self.config.prompts_dir)  # fmt: skip
        self.workspace.journal.keep_prompt(prompt.digest, prompt.dump())
        return prompt, tools

    def _frame(
        self, name: str, session: str, run: str, conversation: Conversation, model: Model, meter: Meter
    ) -> Frame:
        part, journal = role(name), self.workspace.journal
        prompt, tools = self._fit(part, model)
        services = Services(
            output=lambda call: journal.output(session, call),
            keep_output=lambda call, text: journal.keep_output(session, call, text),
            plan=lambda: conversation.plan,
            ask_user=self.people.words,
            delegate=self._delegate if name == "executor" else None,
            symbols=self.workspace.symbols(self.overlay),
        )
        return Frame(
            model, prompt, tools, self.keeper, self.overlay, meter, conversation,
            write=lambda *events: self._record(session, run, *events),
            keep_text=journal.keep_text,
            watcher=Watcher(self.overlay),
            masks=self.workspace.masks,
            workbench=self.bench,
            services=services,
            calibration=self.workspace.calibration,
            tokens_max=self.config.context_tokens_max or CONTEXT_TOKENS_MAX,
            fit=lambda other: self._fit(part, other),
            fallback=self._fallback if name == "executor" else lambda: None,
            steering=self.run.steering if name == "executor" else asyncio.Queue(maxsize=1),
        )  # fmt: skip

    def _fallback(self) -> Model | None:
        return self.pool.get(self.config.fallback) if self.config.fallback else None

    def model_for(self, part: Role, main: Model) -> Model:
        """Return a role's model: the one that the user set, the provider's light one, or the run's own."""
        wanted = self.config.roles.get(part.name, "")
        if not wanted and part.tier == "light":
            wanted = light_model(main.name)
        return main if not wanted or wanted == main.name else self.pool.get(wanted)

    # ---- children

    async def child(
        self, name: str, key: str, content: tuple[Text, ...], main: Model, say: Callable[[str], None]
    ) -> tuple[str, Taint]:
        """Have a role do its work in a context of its own; returns what it ended with and what it has seen.

        A child that had ended before the run was cut off is read again, one that had not goes on.
        """
        journal, part = self.workspace.journal, role(name)
        known = journal.child(self.run.id, key)
        session, ident = known or (new_id("session"), new_id("run"))
        events = [event for _, event in journal.of_session(session)]
        conversation = Conversation.of(events)
        done = next((e for e in reversed(events) if isinstance(e, RunEnded) and e.state == "answered"), None)
        if done is not None:
            return done.answer, conversation.taint
        model = self.model_for(part, main)
        await model.ready()
        meter = self.run.meter.child(part.turns_max)
        meter.turns = sum(isinstance(event, ReplyReceived) for event in events)
        frame = self._frame(name, session, ident, conversation, model, meter)
        frame.keeper = Keeper(
            self.keeper.rules, self.keeper.root, self.run.id, self.run.session, self.keeper.memory, nobody,
            rate=self.keeper.rate, trusted=self.keeper.trusted,
        )  # fmt: skip
        frame.given = self.run.frame.taint() if self.run.frame else CLEAN
        frame.keeper.taint = frame.taint
        if not events:
            journal.keep_child(self.run.id, key, session, ident)
            frame.keep(
                RunStarted(
                    instruction=content[0].text, content=content, model=model.name, role=name, parent=self.run.id,
                    prompt_digest=frame.prompt.digest, layers=frame.prompt.layers, key=key,
                    profile=model.capabilities.profile, flags=dict(self.config.flags),
                )
            )  # fmt: skip
        else:
            frame.keep(Resumed())
        try:
            async for event in Loop(frame).run(resumed=bool(events)):
                if isinstance(event, ToolStarted):
                    say(f"{name}: {event.title}")
        except RedlineError as error:
            frame.keep(RunEnded(state="failed", answer=str(error), turns=meter.turns, tokens=meter.tokens))
            raise
        frame.keep(
            RunEnded(state="answered", answer=frame.answer, turns=meter.turns, tokens=meter.tokens,
                     cost_usd=meter.spent_usd)
        )  # fmt: skip
        return frame.answer, frame.taint()

    async def _watching(
        self, name: str, key: str, content: tuple[Text, ...], main: Model, out: list[tuple[str, Taint]]
    ) -> AsyncIterator[Event]:
        """Run a child and yield what it does as progress; what it ended with goes into `out`."""
        said: list[str] = []
        task = asyncio.create_task(self.child(name, key, content, main, said.append))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=0.5)
                if said:
                    yield Working(text=one_line(said[-1]))
                    said.clear()
            out.append(task.result())
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _delegate(self, task: str, call_id: str, say: Callable[[str], None]) -> Outcome:
        """Have an explorer answer a question."""
        frame = self.run.frame
        assert frame is not None  # noqa: S101  only its own tool calls this
        content = (Text(text=self.workspace.masks.masked(task), label=MODEL),)
        async with self.children:
            try:
                answer, taint = await self.child("explorer", f"delegate-{call_id}", content, frame.model, say)
            except LimitReached as error:
                raise ToolError(f"The explorer reached a limit: {error.message}") from error
            except ModelError as error:
                raise ToolError(f"The explorer failed: {error.message}") from error
        label = Label(source="workspace" if taint.tainted else "model", detail="the explorer's report",
                      secret=taint.secret)  # fmt: skip
        return Outcome(answer, f"explored: {one_line(task, 60)}", label=label)

    # ---- planning

    async def _planned(self, frame: Frame, before: list[Durable]) -> AsyncIterator[Event]:
        """Have a plan made where the task is large, and where the user wants to see it first, wait for their word."""
        own = self._own(before)
        worked = any(isinstance(event, ReplyReceived) for event in own)
        wish = self.config.plan
        why = why_plan(self.run.task.instruction) if wish == "auto" else "you want a plan" if wish != "never" else ""
        if not why or worked or not frame.model.capabilities.judges or frame.conversation.plan is not None:
            return
        yield Working(text=f"Planning: {why}")
        content = frame.conversation.task
        for number in range(_REPLANS_MAX + 1):
            out: list[tuple[str, Taint]] = []
            try:
                key = "plan" if number == 0 else f"plan-{number}"
                async for event in self._watching("planner", key, content, frame.model, out):
                    yield event
            except ModelError as error:
                yield frame.keep(Failed(what="plan", message=f"There is no plan: {error.message}"))
                return
            answer, taint = out[0]
            frame.given = join(frame.given, taint)
            label = Label(source="model", detail="the planner")
            planned = Planned(steps=_steps(answer), by="planner", stepwise=True, label=label)
            words = await self._word_on(planned) if wish == "ask" else ""
            if words is None:
                raise RedlineError("The plan was not confirmed.", hint='Say yes to it, or set plan = "auto".')
            if not words:
                yield frame.keep(planned)
                return
            asked = f"The plan was:\n{plan_text(planned)}\nThe user wants it changed: {words}"
            content = (*content, Text(text=asked, label=USER))

    async def _word_on(self, planned: Planned) -> str | None:
        """Return what the user wants changed, "" for yes, None for no answer."""
        answer = await self.people.words(f"{plan_text(planned)}\nGo on with this plan? (yes, or what to change)")
        if answer is None or answer.strip().lower() in ("no", "n"):
            return None
        return "" if answer.strip().lower() in ("", "yes", "y", "ok") else answer.strip()

    # ---- validating

    async def _validated(self, frame: Frame, proof: list[ProofItem], rounds: int) -> AsyncIterator[Event | str]:
        """Have the change judged; a str is the findings for the executor, the proof gets what came of it."""
        wish = self.config.validate
        proposal = propose(self.overlay, run=self.run.id, session=self.run.session, rules=self.workspace.rules,
                           instruction=self.run.task.instruction, proof=proof, notes=[])  # fmt: skip
        if wish == "never" or not proposal.items or not frame.model.capabilities.judges:
            return
        if rounds >= VALIDATIONS_MAX:
            proof.append(ProofItem("validator", "current", False, "had findings twice; the change was made after that"))
            return
        yield Working(text="Having the change validated")
        out: list[tuple[str, Taint]] = []
        try:
            async for event in self._watching(
                "validator", f"validate-{rounds}", self._case(proposal, proof), frame.model, out
            ):
                yield event
            answer, taint = out[0]
            verdict = json.loads(answer)
        except (ModelError, LimitReached, ValueError) as error:
            why = error.message if isinstance(error, RedlineError) else "it gave no verdict"
            proof.append(ProofItem("validator", "unavailable", None, one_line(why)))
            yield frame.keep(Failed(what="validate", message=one_line(why)))
            return
        frame.given = join(frame.given, taint)
        if verdict["passed"] or not verdict["findings"]:
            proof.append(ProofItem("validator", "current", True, "the change does what was asked"))
            return
        lines = [f"- {each['path']}:{each['line']}: {each['problem']}" for each in verdict["findings"]]
        yield "A review of your change has findings. Mend what is right in them, then finish again.\n" + "\n".join(
            lines
        )

    def _case(self, proposal: Proposal, proof: list[ProofItem]) -> tuple[Text, ...]:
        """What the validator sees: the task, the diff, the proof, and nothing else."""
        masks = self.workspace.masks
        shown = [f"{item.check}: {item.path}: {item.state}: {item.detail}" for item in proof]
        diff = masks.masked("\n".join(diffs(proposal)))
        return (
            Text(text=f"The task:\n{masks.masked(self.run.task.instruction)}", label=self.run.task.source),
            Text(text=clip(diff, _DIFF_CHARS_MAX), label=Label(source="workspace", detail="the diff")),
            Text(text="What was checked:\n" + "\n".join(shown), label=Label(source="workspace", detail="the proof")),
        )


def _steps(answer: str) -> tuple[Step, ...]:
    data = json.loads(answer)
    return tuple(
        Step(what=each["what"], files=tuple(each["files"]), check=each["check"], state="open" if at else "doing")
        for at, each in enumerate(data["steps"])
    )


def _next_step(frame: Frame, summary: str) -> tuple[str, Durable | None]:
    """Return what the executor is told when it finishes a step of a planner's plan, and the plan from then on.

    ("", None) when nothing is left to do.
    """
    plan = frame.conversation.plan
    if plan is None or not plan.stepwise:
        return "", None
    left = [n for n, step in enumerate(plan.steps) if step.state in ("open", "doing")]
    at = next((n for n in left if plan.steps[n].state == "doing"), left[0] if left else None)
    if at is None:
        return "", None
    steps = [*plan.steps]
    steps[at] = steps[at].model_copy(update={"state": "done"})
    following = next((n for n in left if n != at), None)
    if following is None:
        return "", None
    steps[following] = steps[following].model_copy(update={"state": "doing"})
    step = steps[following]
    check = f" Done when: {step.check}" if step.check else ""
    files = f" Files: {', '.join(step.files)}." if step.files else ""
    text = f"Step {at + 1} of {len(steps)} is done: {one_line(summary)} Now step {following + 1}: {step.what}.{files}{check}"
    return text, plan.model_copy(update={"steps": tuple(steps), "by": "executor"})


def _recall(frame: Frame, own: list[Durable]) -> None:
    """Find the answer of a run that had finished but was cut off before its proposal."""
    exchange = frame.conversation.exchange
    if exchange is None or not own or exchange.open_calls or not isinstance(_last(own), ToolFinished):
        return
    for call in exchange.calls:
        result = exchange.results[call.id]
        if call.name == "finish" and not result.error and not _next_step(frame, "")[0]:
            frame.answer = result.text or "Done."


def _last(own: list[Durable]) -> Durable | None:
    passing = (TurnStarted, Resumed, RunEnded, Edited)
    return next((event for event in reversed(own) if not isinstance(event, passing)), None)
