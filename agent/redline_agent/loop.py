"""The loop: view -> reply -> gate -> execute -> record, until the run ends. Nothing here knows a provider or a tool.

Each durable event is recorded before it is acted on, so that a run cut off anywhere leaves a journal that the view can
read. Every stop reason and every limit has its place below.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from redline_agent.context.view import view
from redline_agent.errors import (
    ContextOverflow,
    LimitReached,
    ModelError,
    ModelUnavailable,
    RedlineError,
    ToolError,
)
from redline_agent.events import (
    Durable,
    Event,
    GateDecided,
    ReplyReceived,
    Retrying,
    RunStarted,
    Said,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnStarted,
    Working,
)
from redline_agent.limits import (
    CUT_REPLIES_MAX,
    IDENTICAL_CALLS_MAX,
    PAUSES_MAX,
    REPLY_TOKENS_MAX,
    RESULT_CHARS_MAX,
    RETRIES_MAX,
    RETRY_WAIT_S_MAX,
    Meter,
)
from redline_agent.messages import REDLINE, Label, Reply, Text, ToolCall, ToolResult
from redline_agent.models.base import Model, ReplyDone, Request, TextPiece
from redline_agent.prompts.builder import Prompt
from redline_agent.safety.keeper import Blocked, Keeper
from redline_agent.safety.labels import CLEAN, Taint, join, taint_of
from redline_agent.safety.requests import Request as SideEffect
from redline_agent.safety.requests import digest
from redline_agent.safety.secrets import Masks
from redline_agent.text import clip, one_line
from redline_agent.tools.base import Outcome, Tool, ToolContext
from redline_agent.tools.registry import specs
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.workbench import Workbench

Kept = TypeVar("Kept", bound=Durable)

ERROR, HINT = "Error: ", "\nHint: "
_SHOW_EVERY_S = 1.0
CUT = "Your reply was cut off at its length limit, so nothing in it was carried out. Go on in smaller steps."


@dataclass(slots=True)
class Loop:
    """One run's loop. `history` is every durable event of the session so far; `record` writes the journal.

    `given` is the taint of what the run was given beside its history; `taint` joins all that the model has seen.
    """

    model: Model
    prompt: Prompt
    tools: dict[str, Tool[Any]]
    keeper: Keeper
    overlay: Overlay
    meter: Meter
    history: list[Durable]
    record: Callable[[Durable], None]
    masks: Masks = field(default_factory=Masks)
    workbench: Workbench | None = None
    given: Taint = CLEAN
    steering: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(maxsize=32))
    answer: str = ""
    refused: bool = False
    _calls: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    _cut: int = 0
    _pauses: int = 0

    async def run(self) -> AsyncIterator[Event]:
        """Yield the run's events until it ends; raises LimitReached and ModelError."""
        while True:
            self.meter.check()
            for event in self._steered():
                yield event
            self.meter.turns += 1
            yield self._keep(TurnStarted(turn=self.meter.turns))
            reply: Reply | None = None
            async for event in self._ask():
                yield event
                if isinstance(event, ReplyReceived):
                    reply = event.reply
            assert reply is not None  # noqa: S101  _ask ends in a reply or raises
            async for event in self._follow(reply):
                yield event
            if self._ended(reply):
                return

    def taint(self) -> Taint:
        """Return the join of the labels of everything that the model has been shown."""
        labels: list[Label] = []
        for event in self.history:
            match event:
                case RunStarted():
                    labels += [block.label for block in event.content]
                case Said():
                    labels.append(event.text.label)
                case ToolFinished():
                    labels.append(event.result.label)
                case _:
                    pass
        return join(self.given, taint_of(labels))

    def _keep(self, event: Kept) -> Kept:
        self.record(event)
        self.history.append(event)
        return event

    def _steered(self) -> list[Event]:
        said: list[Event] = []
        while not self.steering.empty():
            text = Text(text=self.masks.masked(self.steering.get_nowait()), label=Label(source="user"))
            said.append(self._keep(Said(text=text)))
        return said

    # ---- the reply

    async def _ask(self) -> AsyncIterator[Event]:
        """Send the request; a refusal to start and a drop in mid-reply are tried again, each with its wait."""
        request = Request(
            system=self.prompt.parts,
            tools=specs(),
            messages=tuple(view(self.history, model=self.model.name)),
            output_tokens_max=REPLY_TOKENS_MAX,
        )
        for attempt in range(1, RETRIES_MAX + 2):
            try:
                async with asyncio.timeout(self.meter.seconds_left()):
                    async for piece in self.model.stream(request):
                        match piece:
                            case TextPiece():
                                yield TextDelta(text=piece.text)
                            case ReplyDone():
                                yield self._received(piece.reply)
                                return
                raise ModelUnavailable("The model's stream ended without a reply.")
            except TimeoutError:
                self.meter.check()
                raise LimitReached("The run reached its time limit.", limit="minutes_max") from None
            except ModelUnavailable as error:
                wait_s = _wait_s(error, attempt)
                if attempt > RETRIES_MAX or wait_s > self.meter.seconds_left():
                    raise ModelError(
                        f"{error.message} Gave up after {attempt} tries.", hint="Try again later."
                    ) from error
                yield Retrying(reason=error.message, wait_s=wait_s, attempt=attempt)
                await asyncio.sleep(wait_s)

    def _received(self, reply: Reply) -> ReplyReceived:
        cost = self.model.cost_usd(reply.usage)
        self.meter.tokens += reply.usage.total
        self.meter.cost_usd += cost or 0.0
        return self._keep(ReplyReceived(turn=self.meter.turns, reply=reply, cost_usd=cost))

    def _ended(self, reply: Reply) -> bool:
        """Whether the run is over after this reply and its calls."""
        match reply.stop:
            case "refusal":
                self.refused = True
                self.answer = reply.note or reply.text or "The model refused the request."
                return True
            case "context_exceeded":
                raise ContextOverflow(
                    "The conversation no longer fits the model's window.", hint="Start a new session."
                )
            case "max_tokens":
                self._cut += 1
                if self._cut >= CUT_REPLIES_MAX:
                    raise ModelError(
                        f"{self._cut} replies in a row were cut at their length limit.",
                        hint="Ask for less at once.",
                    )
                self._keep(Said(text=Text(text=CUT, label=REDLINE)))
                return False
            case "pause_turn":
                self._pauses += 1
                if self._pauses > PAUSES_MAX:
                    raise ModelError("The model paused too often.")
                return False
            case _:
                self._cut = 0
        if self.answer:
            return True
        if not reply.calls:
            self.answer = reply.text
            return True
        return False

    # ---- the calls

    async def _follow(self, reply: Reply) -> AsyncIterator[Event]:
        """Carry out a reply's calls in order; each gets its one result. A cut or refused reply's are not touched."""
        if reply.stop not in ("tool_use", "end_turn", "pause_turn"):
            return
        for call in reply.calls:
            async for event in self._call(call):
                yield event

    async def _call(self, call: ToolCall) -> AsyncIterator[Event]:
        context = ToolContext(
            self.overlay, self.keeper, self.meter.turns, call.id, call.name, self.masks, self.workbench
        )
        done: list[Outcome] = []
        try:
            self._check_repeats(call)
            tool = self.tools.get(call.name)
            if tool is None:
                raise ToolError(f"There is no tool {call.name!r}.", hint=f"Tools: {', '.join(self.tools)}.")
            arguments = _validated(tool, call)
            await tool.prepare(context)
            async for event in self._gate(tool, arguments, call, context):
                yield event
            title = self.masks.masked(one_line(tool.title(arguments)))
            yield self._keep(ToolStarted(call=call, title=title))
            async for event in self._carry_out(tool, arguments, context, done):
                yield event
        except (RedlineError, OSError) as error:
            if isinstance(error, LimitReached):
                raise
            yield self._finished(call, _refusal(error), context, error=True)
            return
        if done[0].finished:
            self.answer = self.masks.masked(done[0].text) or "Done."
        yield self._finished(call, done[0], context, error=False)

    async def _carry_out(
        self, tool: Tool[Any], arguments: Any, context: ToolContext, done: list[Outcome]
    ) -> AsyncIterator[Event]:
        """Run the tool; one that streams shows its latest line while it works."""
        if not tool.streams:
            done.append(await tool.run(arguments, context))
            return
        latest: list[str] = []
        context.report = lambda text: latest.append(text) if text else None
        task = asyncio.create_task(tool.run(arguments, context))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_SHOW_EVERY_S)
                if latest and not task.done():
                    yield Working(text=one_line(context.shown(latest[-1])))
                    latest.clear()
            done.append(task.result())
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _check_repeats(self, call: ToolCall) -> None:
        key = (call.name, call.arguments)
        self._calls[key] += 1
        if self._calls[key] > IDENTICAL_CALLS_MAX:
            raise LimitReached(
                f"The model made the same call to {call.name} {self._calls[key]} times.",
                limit="identical_calls",
                hint="It is going in circles; ask in other words.",
            )

    async def _gate(
        self, tool: Tool[Any], arguments: Any, call: ToolCall, context: ToolContext
    ) -> AsyncIterator[Event]:
        """Have each of the call's requests decided, those that are blocked first, then ask about what is to be
        asked.
        """
        requests = list(tool.requests(arguments, context))
        for request in requests:
            decision = self.keeper.decide(request)
            if decision.verdict == "block":
                self._decided(call, request, "block", decision.rule, decision.reason, asked=False)
                raise Blocked(request, decision)
        for request in requests:
            asking = self.keeper.decide(request).verdict == "ask"
            if asking:
                yield Working(text=f"waiting for your approval: {one_line(request.shown(), 80)}")
            try:
                permit, decision = await self.keeper.obtain(request)
            except Blocked as error:
                decision = error.decision
                self._decided(call, request, "block", decision.rule, decision.reason, asked=asking)
                raise
            context.permits[digest(request)] = permit
            yield self._decided(call, request, "allow", decision.rule, decision.reason, asked=asking)

    def _decided(
        self, call: ToolCall, request: SideEffect, verdict: str, rule: str, reason: str, *, asked: bool
    ) -> GateDecided:
        return self._keep(
            GateDecided(
                call_id=call.id,
                verdict="block" if verdict == "block" else "allow",
                rule=rule,
                reason=reason,
                what=self.masks.masked(one_line(request.shown(), 300)),
                digest=digest(request),
                asked=asked,
                seen=self.taint().seen if asked else (),
            )
        )

    def _finished(self, call: ToolCall, outcome: Outcome, context: ToolContext, *, error: bool) -> ToolFinished:
        label = REDLINE if outcome.finished else outcome.label or context.labels(call.name)
        text = clip(self.masks.masked(outcome.text), RESULT_CHARS_MAX)
        result = ToolResult(call_id=call.id, text=text, error=error, label=label)
        return self._keep(ToolFinished(result=result, summary=self.masks.masked(outcome.summary)))


def _validated(tool: Tool[Any], call: ToolCall) -> Any:
    """Return the call's arguments as the tool's input; raises ToolError with the schema's complaint."""
    try:
        values = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        raise ToolError(
            f"The arguments of {call.name} are not valid JSON: {error}.", hint="Send the call again, whole."
        ) from error
    try:
        return tool.input.model_validate(_clean(values))
    except ValidationError as error:
        complaints = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5])
        raise ToolError(f"The arguments of {call.name} are wrong: {complaints}.") from error


def _clean(value: Any) -> Any:
    """The same values, with what is no character (a lone surrogate) replaced: it could not be written anywhere."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in cast("dict[str, Any]", value).items()}
    return value


def _refusal(error: RedlineError | OSError) -> Outcome:
    """A failed call's result: for the model with the hint on a line of its own, for a person without."""
    message = error.message if isinstance(error, RedlineError) else str(error)
    hint = f"{HINT}{error.hint}" if isinstance(error, RedlineError) and error.hint else ""
    return Outcome(f"{ERROR}{message}{hint}", f"refused: {one_line(message)}")


def _wait_s(error: ModelUnavailable, attempt: int) -> float:
    """Seconds to wait: what the provider asked for, else doubling from 1, both with jitter."""
    base = error.retry_after_s if error.retry_after_s is not None else 2.0 ** (attempt - 1)
    return min(base, RETRY_WAIT_S_MAX) + random.uniform(0, 0.25 * min(base, 4.0))  # noqa: S311
