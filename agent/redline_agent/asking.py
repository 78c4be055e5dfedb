"""Asking the model: the request is made to fit, its cost is held against the limit, and every way in which it can fail
has its answer: wait and try again, compact and try once more, go on with the user's second model, or say so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from redline_agent.context import passes, summary
from redline_agent.context.estimate import BLOCK_TOKENS, raw_block, raw_text
from redline_agent.context.view import Exchange
from redline_agent.errors import ContextOverflow, LimitReached, ModelError, ModelUnavailable
from redline_agent.events import (
    Compacted,
    Event,
    Failed,
    ModelChanged,
    ReplyReceived,
    Retrying,
    TextDelta,
    TurnStarted,
    Working,
)
from redline_agent.frame import Frame, lost, request_digest
from redline_agent.limits import RETRIES_MAX, RETRY_WAIT_S_MAX
from redline_agent.messages import Label, Message, Reply, Text, ToolCall, Usage
from redline_agent.models.base import Gated, Model, ReplyDone, Request, TextPiece
from redline_agent.prompts.builder import build
from redline_agent.roles.roles import role
from redline_agent.safety.labels import join

OUTPUT_TOKENS_LEAST = 256
"""A request that could not be answered with so much is not sent."""
_SUMMARY_TOKENS, _SUMMARY_TRIES, _MARGIN = 2_000, 3, 1.1


async def ask(frame: Frame) -> AsyncIterator[Event]:
    """Ask once, to a ReplyReceived; raises LimitReached, ModelError and its kinds."""
    async for event in compact(frame):
        yield event
    overflowed = False
    attempt = 0
    recorded = ""
    while True:
        request, started = _prepare(frame)
        if started.request != recorded:
            recorded = started.request
            yield frame.keep(started)
        try:
            async for event in _once(frame, request):
                yield event
                if isinstance(event, ReplyReceived) and event.reply.stop == "context_exceeded":
                    raise ContextOverflow("The conversation no longer fits the model's window.")
                if isinstance(event, ReplyReceived):
                    return
        except ContextOverflow as error:
            if overflowed or not frame.conversation.exchanges:
                raise
            overflowed, attempt = True, 0
            async for event in _smaller(frame, error):
                yield event
        except ModelUnavailable as error:
            attempt += 1
            wait_s = _wait_s(error, attempt)
            if attempt > RETRIES_MAX or wait_s > frame.meter.seconds_left():
                if not await _changed(frame, f"{error.message} Gave up after {attempt} tries."):
                    raise ModelError(
                        f"{error.message} Gave up after {attempt} tries.", hint="Try again later."
                    ) from error
                attempt = 0
                async for event in compact(frame):
                    yield event
                continue
            paid = lost(error)
            cost = frame.pay(paid) if paid.total else None
            yield frame.keep(Retrying(reason=error.message, wait_s=wait_s, attempt=attempt, usage=paid, cost_usd=cost))
            await asyncio.sleep(wait_s)


async def _smaller(frame: Frame, why: ContextOverflow) -> AsyncIterator[Event]:
    """Compact after a refusal of the window; raises what that raises, with the refusal as its cause."""
    try:
        async for event in compact(frame, forced=True):
            yield event
    except ContextOverflow as still:
        raise still from why


async def refused(frame: Frame, why: str) -> bool:
    """Whether another model goes on after a refusal; the refusing reply stays in the journal."""
    return await _changed(frame, why)


async def _changed(frame: Frame, why: str) -> bool:
    second = frame.fallback()
    if second is None or second.name == frame.model.name:
        return False
    await second.ready()
    frame.adopt(second)
    frame.keep(ModelChanged(model=second.name, why=why))
    return True


def _prepare(frame: Frame) -> tuple[Request, TurnStarted]:
    """Make the request, with no more room for the reply than the cost limit can pay for."""
    model = frame.model
    raw = frame.raw_tokens()
    expected = frame.calibration(model.name).tokens(raw)
    most = min(model.capabilities.output_tokens_max, max(model.capabilities.window // 4, OUTPUT_TOKENS_LEAST))
    request = frame.request(_affordable(frame, expected, most))
    started = TurnStarted(
        turn=frame.meter.turns,
        request=request_digest(request, frame.prompt.digest, model.name),
        prompt=frame.prompt.digest,
        model=model.name,
        raw_tokens=raw,
        expected_tokens=expected,
        output_tokens_max=request.output_tokens_max,
    )
    return request, started


def _affordable(frame: Frame, expected: int, most: int) -> int:
    """Return how long a reply may be; raises LimitReached before a request that could pass the cost limit."""
    question = frame.model.bound_usd(Usage(cache_write_tokens=round(expected * _MARGIN)))
    answer = frame.model.bound_usd(Usage(output_tokens=most))
    left = frame.meter.left_usd - question
    if answer <= left:
        return most
    fits = int(most * left / answer) if answer > 0 and left > 0 else 0
    if fits < OUTPUT_TOKENS_LEAST:
        limit = frame.meter.limits.cost_usd_max
        raise LimitReached(
            f"The next request could pass the run's limit cost_usd_max = {limit:g}"
            f" (${frame.meter.cost_usd:.4f} are spent).",
            limit="cost_usd_max",
            hint="Raise it under [limits] in the configuration, or ask for a smaller step.",
        )
    return fits


async def _once(frame: Frame, request: Request) -> AsyncIterator[Event]:
    """Send the request once."""
    await _admitted(frame, frame.model, request)
    try:
        async with asyncio.timeout(frame.meter.seconds_left()):
            async for piece in frame.model.stream(request):
                match piece:
                    case TextPiece():
                        yield TextDelta(text=piece.text)
                    case ReplyDone():
                        yield _received(frame, piece.reply)
                        return
        raise ModelUnavailable("The model's stream ended without a reply.")
    except TimeoutError:
        frame.meter.check()
        raise LimitReached("The run reached its time limit.", limit="minutes_max") from None


async def _admitted(frame: Frame, model: Model, request: Request) -> None:
    if isinstance(model, Gated):
        frame.meter.waited(await model.admit(request))


def _received(frame: Frame, reply: Reply) -> ReplyReceived:
    cost = frame.pay(reply.usage)
    return frame.keep(ReplyReceived(turn=frame.meter.turns, reply=_with_own_ids(frame, reply), cost_usd=cost))


def _with_own_ids(frame: Frame, reply: Reply) -> Reply:
    """Give a call whose id is taken another one: some servers number calls anew in each reply."""
    taken = set(frame.conversation.taken)
    content = list(reply.content)
    for at, block in enumerate(content):
        if isinstance(block, ToolCall):
            ident, number = block.id or "call", 1
            while not ident or ident in taken:
                number += 1
                ident = f"{frame.meter.turns}-{number}-{block.id or 'call'}"
            taken.add(ident)
            if ident != block.id:
                content[at] = block.model_copy(update={"id": ident})
    return reply.model_copy(update={"content": tuple(content)})


def _wait_s(error: ModelUnavailable, attempt: int) -> float:
    """Seconds to wait: what the provider asked for, else doubling from 1, both with jitter."""
    base = error.retry_after_s if error.retry_after_s is not None else 2.0 ** (attempt - 1)
    return min(base, RETRY_WAIT_S_MAX) + random.uniform(0, 0.25 * min(base, 4.0))  # noqa: S311


# ---- making it fit


def trigger(frame: Frame) -> int:
    """Return how many tokens a request may have before the conversation is made smaller."""
    can = frame.model.capabilities
    return min(frame.tokens_max, int(can.window * 0.9) - min(can.output_tokens_max, can.window // 4))


async def compact(frame: Frame, *, forced: bool = False, strict: bool = True) -> AsyncIterator[Event]:
    """Make the conversation smaller when it has reached the trigger, in one large step.

    Raises ContextOverflow when that saves too little (unless it is not `strict`): a loop of compactions would only
    cost.
    """
    calibration = frame.calibration(frame.model.name)
    limit = trigger(frame)
    before = calibration.tokens(frame.raw_tokens())
    if before < limit and not forced:
        return
    target = passes.SHARE_TARGET * min(limit, before)
    yield Working(text="Making the conversation smaller")

    def measure(text: str) -> float:
        return raw_text(text) * calibration.factor

    cuts: list[passes.Cut] = []
    for each in (passes.dedupe, passes.mask):
        cut = each(frame.conversation, measure)
        if cut.cleared:
            cuts.append(cut)
            frame.conversation.cleared |= cut.cleared
    cleared = {ident: text for cut in cuts for ident, text in cut.cleared.items()}
    after = calibration.tokens(frame.raw_tokens())
    event = Compacted(cleared=cleared, before_tokens=before, after_tokens=after, passes=tuple(map(str, cuts)))
    if after > target:
        replies = sum(_size(frame, each) for each in frame.conversation.exchanges)
        room = max(target - (after - calibration.tokens(replies)), target / 4)
        keep = passes.fold(frame.conversation, lambda each: _size(frame, each) * calibration.factor, room)
        if summary.folded(frame.conversation, keep):
            async for step in _folding(frame, event, keep):
                if isinstance(step, Compacted):
                    event = step
                else:
                    yield step
    if not event.cleared and event.summary is None:
        raise ContextOverflow(
            f"The conversation has {before:,} tokens, and nothing of it can be left out.",
            hint="Start a new session, or ask for less at once.",
        )
    frame.keep_all(event)
    after = calibration.tokens(frame.raw_tokens())
    yield event.model_copy(update={"after_tokens": after})
    if strict and after > passes.SHARE_ENOUGH * min(limit, before):
        raise ContextOverflow(
            f"The conversation has {after:,} tokens after it was made smaller; {limit:,} are the limit.",
            hint="Start a new session, ask for less at once, or raise context.tokens_max.",
        )


def _size(frame: Frame, exchange: Exchange) -> float:
    """Tokens of an exchange as it is shown: a cleared result is its line."""
    cleared = frame.conversation.cleared
    shown = sum(
        raw_text(cleared[ident]) + BLOCK_TOKENS if ident in cleared else raw_block(result)
        for ident, result in exchange.results.items()
    )
    return BLOCK_TOKENS + shown + sum(raw_block(block) for block in exchange.reply.content)


async def _folding(frame: Frame, event: Compacted, keep: int) -> AsyncIterator[Event]:
    """Have a summary made for what is folded: by rule, and in the model's own words where it can give them."""
    conversation = frame.conversation
    certain = summary.by_rule(conversation, keep)
    words, usage, cost = "", Usage(), None
    if frame.model.capabilities.judges:
        try:
            words, usage, cost = await _in_words(frame, keep)
        except ModelError as error:
            yield frame.keep(Failed(what="summarise", message=f"The summary was made by rule alone: {error.message}"))
    text = summary.as_text(f"{words}\n\nFrom the journal:\n{certain}" if words else certain, frame.taint())
    replies = conversation.exchanges
    if raw_text(text.text) >= sum(_size(frame, each) for each in replies[: len(replies) - keep]):
        if usage.total:  # it would stand for less than itself, but it was paid for
            frame.keep(
                Retrying(reason="a summary that was not used", wait_s=0.0, attempt=0, usage=usage, cost_usd=cost)
            )
        return
    note = f"summarise: all but the newest {keep} replies"
    yield event.model_copy(
        update={"summary": text, "keep": keep, "passes": (*event.passes, note), "usage": usage, "cost_usd": cost}
    )


async def _in_words(frame: Frame, keep: int) -> tuple[str, Usage, float | None]:
    """Return a model's summary: no tools; a request that is too large itself is halved and tried again."""
    model = frame.summariser(frame.model)
    await model.ready()
    prompt = build(role("summariser"), model.capabilities.profile, (), {})
    chars = int(trigger(frame) * 2.5)
    for tried in range(1, _SUMMARY_TRIES + 1):
        text = summary.transcript(frame.conversation, keep, chars)
        taint = join(frame.taint())
        label = Label(source="workspace" if taint.tainted else "redline", detail="conversation", secret=taint.secret)
        message = Message(role="user", content=(Text(text=text, label=label),))
        try:
            request = Request(prompt.parts, (), (message,), _SUMMARY_TOKENS)
            await _admitted(frame, model, request)
            reply = await _reply(model, request)
        except ContextOverflow:
            chars //= 2
            if tried == _SUMMARY_TRIES:
                raise
            continue
        cost = frame.pay(reply.usage, model)
        return ("" if reply.stop in ("refusal", "context_exceeded") else reply.text.strip()), reply.usage, cost
    raise ModelError("The summary could not be made.")


async def _reply(model: Model, request: Request) -> Reply:
    async for piece in model.stream(request):
        if isinstance(piece, ReplyDone):
            return piece.reply
    raise ModelUnavailable("The model's stream ended without a reply.")
