"""The frames and the children of a run: each role's prompt, tools and model, and the work that it does by itself.

A child (planner, validator, explorer) is a session of its own, on the parent's budget, with nobody to ask: what the
parent may not do without a question, it may not do. One that had ended before the run was cut off is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redline_agent.config import Config
from redline_agent.context.view import Conversation
from redline_agent.errors import LimitReached, ModelError, RedlineError, ToolError
from redline_agent.events import Event, ReplyReceived, Resumed, RunEnded, RunStarted, ToolStarted, Working
from redline_agent.extend.mcp import Servers
from redline_agent.frame import Frame
from redline_agent.journal import new_id
from redline_agent.limits import CHILDREN_AT_ONCE_MAX, CONTEXT_TOKENS_MAX, Meter
from redline_agent.loop import Loop
from redline_agent.messages import MODEL, Label, Text
from redline_agent.models.base import Model
from redline_agent.models.names import light_model
from redline_agent.models.pool import Pool
from redline_agent.prompts.builder import Prompt, build
from redline_agent.proof.language import Language
from redline_agent.proof.prove import Prover
from redline_agent.roles.roles import Role, role
from redline_agent.safety.approvals import Asker, nobody
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import CLEAN, Taint
from redline_agent.text import one_line
from redline_agent.tools.base import Outcome, Services, Tool
from redline_agent.tools.narrow import narrowed
from redline_agent.tools.registry import by_name, specs
from redline_agent.workspace.kept import Watcher
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

if TYPE_CHECKING:
    from redline_agent.session import Run, Workspace

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
class Means:
    """Everything that one run works with."""

    workspace: Workspace
    run: Run
    config: Config
    people: People
    pool: Pool
    overlay: Overlay
    keeper: Keeper
    bench: Workbench
    prover: Prover
    outside: Servers = field(default_factory=Servers)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHILDREN_AT_ONCE_MAX))

    # ---- frames

    def fit(self, part: Role, model: Model) -> tuple[Prompt, dict[str, Tool[Any]]]:
        """Return a role's prompt and tools for a model; the prompt is kept in the journal."""
        small = model.capabilities.profile == "small"
        names = part.tool_names(model.capabilities, self.config.flags)
        known = by_name(names)
        tools = {name: known[name] for name in names} if small else known
        if part.name == "executor" and not small:
            tools |= self.outside.tools
        told = specs(tools.values())
        if small and self.run.shown:
            told = narrowed(told, self.run.shown, self.overlay, self.run.task.instruction)
        facts = {"folder": self.workspace.resolver.root.name, "date": datetime.now(UTC).date().isoformat()}
        prompt = build(part, model.capabilities.profile, told, facts, flags=self.config.flags,
                       folder=self.config.prompts_dir)  # fmt: skip
        self.workspace.journal.keep_prompt(prompt.digest, prompt.dump())
        return prompt, tools

    def frame(self, name: str, session: str, run: str, conversation: Conversation, model: Model, meter: Meter) -> Frame:
        r"""Return what a role\'s loop works with."""
        part, journal = role(name), self.workspace.journal
        prompt, tools = self.fit(part, model)
        services = Services(
            output=lambda call: journal.output(session, call),
            keep_output=lambda call, text: journal.keep_output(session, call, text),
            plan=lambda: conversation.plan,
            ask_user=self.people.words,
            delegate=self._delegate if name == "executor" else None,
            symbols=self.workspace.symbols(self.overlay),
            language=Language(self.overlay, self.keeper, self.workspace.servers) if name == "executor" else None,
        )
        return Frame(
            model, prompt, tools, self.keeper, self.overlay, meter, conversation,
            write=lambda *events: self.workspace.journal.append(session, run, *events),
            keep_text=journal.keep_text,
            watcher=Watcher(self.overlay),
            masks=self.workspace.masks,
            workbench=self.bench,
            services=services,
            calibration=self.workspace.calibration,
            tokens_max=self.config.context_tokens_max or CONTEXT_TOKENS_MAX,
            fit=lambda other: self.fit(part, other),
            summariser=lambda main: self.model_for(role("summariser"), main),
            fallback=self._fallback if name == "executor" else lambda: None,
            news=self.workspace.meetings(self.run, self.overlay) if name == "executor" else list,
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
        frame = self.frame(name, session, ident, conversation, model, meter)
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

    async def watching(
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
        async with self.places:
            try:
                answer, taint = await self.child("explorer", f"delegate-{call_id}", content, frame.model, say)
            except LimitReached as error:
                raise ToolError(f"The explorer reached a limit: {error.message}") from error
            except ModelError as error:
                raise ToolError(f"The explorer failed: {error.message}") from error
        label = Label(source="workspace" if taint.tainted else "model", detail="the explorer's report",
                      secret=taint.secret)  # fmt: skip
        return Outcome(answer, f"explored: {one_line(task, 60)}", label=label)
