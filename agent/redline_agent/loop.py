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
    Said,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnStarted,
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
from redline_agent.safety.gate import Rules, decide_all
from redline_agent.text import clip, one_line
from redline_agent.tools.base import Outcome, Tool, ToolContext, blocked
from redline_agent.tools.registry import specs
from redline_agent.workspace.overlay import Overlay

Kept = TypeVar("Kept", bound=Durable)

ERROR, HINT = "Error: ", "\nHint: "
CUT = "Your reply was cut off at its length limit, so nothing in it was carried out. Go on in smaller steps."


@dataclass(slots=True)
class Loop:
    """One run's loop. `history` is every durable event of the session so far; `record` writes the journal."""

    model: Model
    prompt: Prompt
    tools: dict[str, Tool[Any]]
    rules: Rules
    overlay: Overlay
    meter: Meter
    history: list[Durable]
    record: Callable[[Durable], None]
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

    def _keep(self, event: Kept) -> Kept:
        self.record(event)
        self.history.append(event)
        return event

    def _steered(self) -> list[Event]:
        said: list[Event] = []
        while not self.steering.empty():
            text = Text(text=self.steering.get_nowait(), label=Label(source="user"))
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
        context = ToolContext(self.overlay, self.rules, self.meter.turns, call.id, call.name)
        try:
            self._check_repeats(call)
            tool = self.tools.get(call.name)
            if tool is None:
                raise ToolError(f"There is no tool {call.name!r}.", hint=f"Tools: {', '.join(self.tools)}.")
            arguments = _validated(tool, call)
            yield self._gate(tool, arguments, call, context)
            yield self._keep(ToolStarted(call=call, title=one_line(tool.title(arguments))))
            outcome: Outcome = await tool.run(arguments, context)
        except (RedlineError, OSError) as error:
            if isinstance(error, LimitReached):
                raise
            yield self._finished(call, _refusal(error), error=True)
            return
        if outcome.finished:
            self.answer = outcome.text or "Done."
        yield self._finished(call, outcome, error=False)

    def _check_repeats(self, call: ToolCall) -> None:
        key = (call.name, call.arguments)
        self._calls[key] += 1
        if self._calls[key] > IDENTICAL_CALLS_MAX:
            raise LimitReached(
                f"The model made the same call to {call.name} {self._calls[key]} times.",
                limit="identical_calls",
                hint="It is going in circles; ask in other words.",
            )

    def _gate(self, tool: Tool[Any], arguments: Any, call: ToolCall, context: ToolContext) -> GateDecided:
        refused = decide_all(tool.accesses(arguments, context), self.rules)
        if refused:
            access, decision = refused
            self._keep(GateDecided(call_id=call.id, verdict="block", rule=decision.rule, reason=decision.reason))
            raise ToolError(blocked(access, decision), hint="Do not try to get round it.")
        return self._keep(GateDecided(call_id=call.id, verdict="allow", rule="files", reason="inside the workspace"))

    def _finished(self, call: ToolCall, outcome: Outcome, *, error: bool) -> ToolFinished:
        label = Label(source="workspace", detail=call.name)
        result = ToolResult(call_id=call.id, text=clip(outcome.text, RESULT_CHARS_MAX), error=error, label=label)
        return self._keep(ToolFinished(result=result, summary=outcome.summary))


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
