"""Carrying out a reply's calls: checked, gated, executed, recorded. Each gets its one result, in their order.

Calls that do not touch each other's files run side by side, the others one after the other. The gate decides on each
before any of its group begins; results and edits of a group are written down together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import ValidationError

from redline_agent.errors import LimitReached, RedlineError, ToolError
from redline_agent.events import Durable, Edited, Event, GateDecided, ToolFinished, ToolStarted, Working
from redline_agent.frame import Frame
from redline_agent.limits import CALLS_AT_ONCE_MAX, IDENTICAL_CALLS_MAX, OUTPUT_CHARS_KEPT, RESULT_CHARS_MAX
from redline_agent.messages import REDLINE, ToolCall, ToolResult
from redline_agent.safety.keeper import Blocked
from redline_agent.safety.requests import Request as SideEffect
from redline_agent.safety.requests import digest
from redline_agent.text import clip, one_line
from redline_agent.tools.base import EVERYTHING, Footprint, Outcome, Tool, ToolContext

ERROR, HINT = "Error: ", "\nHint: "
_SHOW_EVERY_S = 1.0


@dataclass(slots=True)
class Attempt:
    """One call on its way: what was understood of it, what it may do, what came of it."""

    call: ToolCall
    context: ToolContext
    tool: Tool[Any] | None = None
    arguments: Any = None
    footprint: Footprint = EVERYTHING
    outcome: Outcome | None = None
    error: bool = False

    def fail(self, error: RedlineError | OSError) -> None:
        """Let the call end in an error, which the model is told."""
        self.outcome, self.error = _refusal(error), True


async def carry_out(frame: Frame, calls: Sequence[ToolCall]) -> AsyncIterator[Event]:
    """Carry out calls; raises LimitReached for one that is made again and again."""
    attempts = [_understood(frame, call) for call in calls]
    for group in groups(attempts):
        async for event in _together(frame, group):
            yield event


def groups(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    """Return the calls in order, in groups whose members do not conflict."""
    out: list[list[Attempt]] = []
    for attempt in attempts:
        fits = out and len(out[-1]) < CALLS_AT_ONCE_MAX
        if fits and not any(attempt.footprint.conflicts(other.footprint) for other in out[-1]):
            out[-1].append(attempt)
        else:
            out.append([attempt])
    return out


def _understood(frame: Frame, call: ToolCall) -> Attempt:
    attempt = Attempt(call, frame.context(call.id, call.name))
    try:
        _check_repeats(frame, call)
        tool = frame.tools.get(call.name)
        if tool is None:
            raise ToolError(f"There is no tool {call.name!r}.", hint=f"Tools: {', '.join(frame.tools)}.")
        attempt.arguments = _validated(tool, call)
        if tool.once and call.id in frame.begun:
            raise ToolError(
                f"{call.name} was being called when the run was cut off; nobody knows whether it was done.",
                hint="Find out before you call it again.",
            )
        attempt.tool = tool
        attempt.footprint = tool.footprint(attempt.arguments, attempt.context)
    except LimitReached:
        raise
    except (RedlineError, OSError) as error:
        attempt.fail(error)
    return attempt


def _check_repeats(frame: Frame, call: ToolCall) -> None:
    frame.calls.append((call.name, call.arguments))
    times = frame.calls.count((call.name, call.arguments))
    if times > IDENTICAL_CALLS_MAX:
        raise LimitReached(
            f"The model made the same call to {call.name} {times} times.",
            limit="identical_calls",
            hint="It is going in circles; ask in other words.",
        )


async def _together(frame: Frame, group: list[Attempt]) -> AsyncIterator[Event]:
    for attempt in group:
        async for event in _admitted(frame, attempt):
            yield event
    async for event in _executed([attempt for attempt in group if attempt.outcome is None]):
        yield event
    _tell_news(frame, group[-1])
    recorded: list[Durable] = []
    files, seen = frame.watcher.changes(frame.keep_text)
    if files or seen:
        recorded.append(Edited(files=files, seen=seen))
    for attempt in group:
        if not attempt.error:
            recorded += attempt.context.events
        recorded += _finished(frame, attempt)
    frame.keep_all(*recorded)
    for event in recorded:
        yield event


def _tell_news(frame: Frame, last: Attempt) -> None:
    """Have the last result of a group say who else changes the same text; the end of a run is its answer alone."""
    if last.outcome is None or last.outcome.finished:
        return
    if news := frame.news():
        last.outcome = replace(last.outcome, text="\n".join([last.outcome.text, *news]))


async def _admitted(frame: Frame, attempt: Attempt) -> AsyncIterator[Event]:
    """Have a call's requests decided; one that may not be done ends here."""
    if attempt.tool is None:
        return
    try:
        await attempt.tool.prepare(attempt.context)
        async for event in _gate(frame, attempt):
            yield event
        title = frame.masks.masked(one_line(attempt.tool.title(attempt.arguments)))
        yield frame.keep(ToolStarted(call=attempt.call, title=title))
    except LimitReached:
        raise
    except (RedlineError, OSError) as error:
        attempt.fail(error)


async def _executed(group: list[Attempt]) -> AsyncIterator[Event]:
    """Run the group's tools side by side; what they report is shown while they work."""
    latest: list[str] = []
    tasks = [asyncio.create_task(_run(attempt, latest)) for attempt in group]
    try:
        while any(not task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=_SHOW_EVERY_S, return_when=asyncio.ALL_COMPLETED)
            if latest and any(not task.done() for task in tasks):
                yield Working(text=one_line(group[0].context.shown(latest[-1])))
                latest.clear()
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(attempt: Attempt, latest: list[str]) -> None:
    assert attempt.tool is not None  # noqa: S101  only those that were admitted get here
    if attempt.tool.streams:
        attempt.context.report = lambda text: latest.append(text) if text else None
    try:
        outcome = await attempt.tool.run(attempt.arguments, attempt.context)
        attempt.outcome = replace(outcome, text=outcome.text + attempt.context.versions(outcome.text))
        attempt.error = attempt.outcome.failed
    except LimitReached:
        raise
    except (RedlineError, OSError) as error:
        attempt.fail(error)


async def _gate(frame: Frame, attempt: Attempt) -> AsyncIterator[Event]:
    """Have each of the call's requests decided, those that are blocked first, then ask about what is to be asked."""
    assert attempt.tool is not None  # noqa: S101  the caller looked
    requests = list(attempt.tool.requests(attempt.arguments, attempt.context))
    call, keeper = attempt.call, frame.keeper
    for request in requests:
        decision = keeper.decide(request)
        if decision.verdict == "block":
            _decided(frame, call, request, "block", decision.rule, decision.reason, asked=False)
            raise Blocked(request, decision)
    for request in requests:
        asking = keeper.decide(request).verdict == "ask"
        if asking:
            yield Working(text=f"waiting for your approval: {one_line(request.shown(), 80)}")
        try:
            permit, decision = await keeper.obtain(request)
        except Blocked as error:
            decision = error.decision
            _decided(frame, call, request, "block", decision.rule, decision.reason, asked=asking)
            raise
        attempt.context.permits[digest(request)] = permit
        yield _decided(frame, call, request, "allow", decision.rule, decision.reason, asked=asking)


def _decided(
    frame: Frame, call: ToolCall, request: SideEffect, verdict: str, rule: str, reason: str, *, asked: bool
) -> GateDecided:
    return frame.keep(
        GateDecided(
            call_id=call.id,
            verdict="block" if verdict == "block" else "allow",
            rule=rule,
            reason=reason,
            what=frame.masks.masked(one_line(request.shown(), 300)),
            digest=digest(request),
            asked=asked,
            seen=frame.taint().seen if asked else (),
        )
    )


def _finished(frame: Frame, attempt: Attempt) -> list[Durable]:
    """Return the call's result, after the plan where a step of it is done."""
    outcome, context, call = attempt.outcome, attempt.context, attempt.call
    assert outcome is not None  # noqa: S101  each call has ended by now
    exchange = frame.conversation.exchange
    if outcome.finished and exchange and any(result.error for result in exchange.results.values()):
        attempt.fail(ToolError("Another call of this reply failed, so this is not the end.", hint="Mend that first."))
        outcome = attempt.outcome or outcome
    label = REDLINE if outcome.finished else outcome.label or context.labels(call.name)
    whole = frame.masks.masked(outcome.text)
    planned: Durable | None = None
    if outcome.finished and not attempt.error:
        step, planned = frame.next_step(whole)
        if step:
            whole = step
        else:
            frame.answer = whole or "Done."
    text = whole
    shown_max = outcome.chars_max or RESULT_CHARS_MAX
    if len(whole) > shown_max:
        frame.services.keep_output(call.id, clip(whole, OUTPUT_CHARS_KEPT))
        text = clip(whole, shown_max, f"`read_more` with call {call.id} shows them")
    result = ToolResult(call_id=call.id, text=text, error=attempt.error, label=label)
    finished = ToolFinished(result=result, summary=frame.masks.masked(outcome.summary))
    return [finished] if planned is None else [planned, finished]


def _validated(tool: Tool[Any], call: ToolCall) -> Any:
    """Return the call's arguments as the tool's input; raises ToolError with the schema's complaint and an example."""
    example = f"An example: {json.dumps(tool.example)}"
    try:
        values = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ToolError(
            f"The arguments of {call.name} are not valid JSON: {error}.", hint=f"Send the call again, whole. {example}"
        ) from error
    try:
        return tool.input.model_validate(_clean(values))
    except ValidationError as error:
        complaints = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5])
        raise ToolError(f"The arguments of {call.name} are wrong: {complaints}.", hint=example) from error


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
