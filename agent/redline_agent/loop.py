"""The loop: view -> reply -> gate -> execute -> record, until the run ends. Nothing here knows a provider or a tool.

Each durable event is recorded before it is acted on, so that a run cut off anywhere leaves a journal that the view can
read, and that the loop can go on from: a reply that was received is followed, never asked for again. How a request is
made and fails is in `asking`, how calls are carried out in `calling`; what both work with is a `Frame`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from redline_agent import asking, calling
from redline_agent.errors import ModelError
from redline_agent.events import Event, ReplyReceived, Said
from redline_agent.frame import Frame
from redline_agent.limits import CUT_REPLIES_MAX, PAUSES_MAX
from redline_agent.messages import REDLINE, Label, Reply, Text

CUT = "Your reply was cut off at its length limit, so nothing in it was carried out. Go on in smaller steps."


@dataclass(slots=True)
class Loop:
    """One run's loop over its frame."""

    frame: Frame
    refused: bool = False
    _cut: int = 0
    _pauses: int = 0

    async def run(self, *, resumed: bool = False) -> AsyncIterator[Event]:
        """Yield the run's events until it ends; raises LimitReached and ModelError.

        A resumed run begins with the last reply that it has, if anything of that is left to do.
        """
        frame = self.frame
        exchange = frame.conversation.exchange
        if resumed and exchange is not None and frame.conversation.entries[-1] is exchange:
            async for event in self._follow(exchange.reply):
                yield event
            if await self._ended(exchange.reply):
                return
        while True:
            frame.meter.check()
            for event in self._steered():
                yield event
            frame.meter.turns += 1
            reply: Reply | None = None
            async for event in asking.ask(frame):
                yield event
                if isinstance(event, ReplyReceived):
                    reply = event.reply
            assert reply is not None  # noqa: S101  ask ends in a reply or raises
            async for event in self._follow(reply):
                yield event
            if await self._ended(reply):
                return

    def _steered(self) -> list[Event]:
        said: list[Event] = []
        frame = self.frame
        while not frame.steering.empty():
            text = Text(text=frame.masks.masked(frame.steering.get_nowait()), label=Label(source="user"))
            said.append(frame.keep(Said(text=text)))
        return said

    async def _follow(self, reply: Reply) -> AsyncIterator[Event]:
        """Carry out the calls of a reply that have no result yet; a cut or refused reply's are not touched."""
        if reply.stop not in ("tool_use", "end_turn", "pause_turn"):
            return
        exchange = self.frame.conversation.exchange
        if exchange is not None and exchange.open_calls:
            async for event in calling.carry_out(self.frame, exchange.open_calls):
                yield event

    async def _ended(self, reply: Reply) -> bool:
        """Whether the run is over after this reply and its calls."""
        frame = self.frame
        match reply.stop:
            case "refusal":
                why = reply.note or reply.text or "The model refused the request."
                if reply.model != frame.model.name or await asking.refused(frame, why):
                    return False  # the user's second model goes on, or was to when the run was cut off
                self.refused = True
                frame.answer = why
                return True
            case "max_tokens":
                self._cut += 1
                if self._cut >= CUT_REPLIES_MAX:
                    raise ModelError(
                        f"{self._cut} replies in a row were cut at their length limit.",
                        hint="Ask for less at once.",
                    )
                frame.keep(Said(text=Text(text=CUT, label=REDLINE)))
                return False
            case "pause_turn":
                self._pauses += 1
                if self._pauses > PAUSES_MAX:
                    raise ModelError("The model paused too often.")
                return False
            case _:
                self._cut = 0
        return self._answered(reply)

    def _answered(self, reply: Reply) -> bool:
        frame = self.frame
        if frame.answer:
            return True
        if reply.calls:
            return False
        step, planned = frame.next_step(reply.text)
        said = [Said(text=Text(text=step, label=REDLINE))] if step else []
        if planned is not None or said:
            frame.keep_all(*([planned] if planned is not None else []), *said)
        if step or not frame.steering.empty():
            return False
        frame.answer = reply.text or "Done."
        return True
