"""Questions to the user that a run waits for: leave to do something, a word, the confirmation of a directive.

Each stands in `redline.runs` and among the code actions until it is answered; our own clients are asked by a request,
others by a message. A full queue means no.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, cast

from redline_agent.errors import UsageError
from redline_agent.safety.approvals import Answer, Question

from redline_server.client import Client

CONFIRM_S_MAX = 600.0
PENDING_MAX = 16
"""Open questions at once; one more is denied unasked."""
ANSWER_TITLES: dict[Answer, str] = {
    "deny": "Deny",
    "once": "Allow once",
    "session": "Allow for this session",
    "always": "Always allow in this folder",
}
_YES = ("yes", "y", "run it")


@dataclass(slots=True)
class Pending:
    """A question to the user that a run waits for; one with `answers` asks for leave, and only those answer it."""

    id: str
    run: str
    question: str
    uri: str
    line: int
    answer: asyncio.Future[str]
    answers: tuple[Answer, ...] = ()
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as `redline.runs` shows it."""
        known = {"requestId": self.id, "question": self.question}
        return known | ({"why": self.why, "answers": list(self.answers)} if self.answers else {})


class Questions:
    """All open questions of this server."""

    def __init__(self, client: Client) -> None:
        self.pending: dict[str, Pending] = {}
        self._client = client
        self._ids = itertools.count(1)

    def _new(self, run: str, question: str, uri: str, line: int, answers: tuple[Answer, ...], why: str) -> Pending:
        ident = f"ask-{next(self._ids)}"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pending[ident] = Pending(ident, run, question, uri, line, answer, answers, why)
        return self.pending[ident]

    async def confirmed(self, run: str, question: str, uri: str, line: int) -> bool:
        """Ask whether a directive that came with the file may run; no answer is no."""
        pending = self._new(run, question, uri, line, (), "")
        answer = pending.answer
        asked = asyncio.create_task(self._client.choose(question, ["Do not run it", "Run it"]))

        def chosen(task: asyncio.Task[str | None]) -> None:
            if not task.cancelled() and task.exception() is None and task.result() and not answer.done():
                answer.set_result("yes" if task.result() == "Run it" else "no")

        asked.add_done_callback(chosen)
        try:
            return (await asyncio.wait_for(answer, CONFIRM_S_MAX)).strip().lower() in _YES
        except TimeoutError:
            return False
        finally:
            asked.cancel()
            self.pending.pop(pending.id, None)

    async def leave(self, run: str, question: Question, uri: str, line: int) -> Answer:
        """Ask for leave to do one thing: our own clients by a request, others by a message with the safe answer first.

        Meanwhile it waits for `redline.approve`.
        """
        if len(self.pending) >= PENDING_MAX:
            return "deny"
        pending = self._new(run, question.what, uri, line, question.answers, question.why)
        asking = asyncio.create_task(self._put(pending))
        try:
            return cast("Answer", await pending.answer)
        finally:
            asking.cancel()
            self.pending.pop(pending.id, None)

    async def words(
        self, run: str, question: str, uri: str, line: int, seconds_max: float | None = CONFIRM_S_MAX
    ) -> str | None:
        """Ask the user a question in words, for `redline.answer`; None when the queue is full, or nobody answers.

        Without `seconds_max` it waits until it is cancelled.
        """
        if len(self.pending) >= PENDING_MAX:
            return None
        pending = self._new(run, question, uri, line, (), "")
        self._client.notify("redline/question", {"requestId": pending.id, "runId": run, "question": question})
        self._client.show(f"Redline asks: {question}\nAnswer with the command redline.answer ({pending.id}).")
        try:
            return await asyncio.wait_for(pending.answer, seconds_max)
        except TimeoutError:
            return None
        finally:
            self.pending.pop(pending.id, None)

    async def _put(self, pending: Pending) -> None:
        """Put a question to the user in the best way that the client has; what cannot be asked waits for a command."""
        params = {
            "requestId": pending.id, "runId": pending.run, "what": pending.question, "why": pending.why,
            "answers": list(pending.answers),
        }  # fmt: skip
        chosen = await self._client.permission(params)
        if chosen is None:
            titles = {ANSWER_TITLES[each]: each for each in pending.answers}
            message = f"Redline asks for leave to {pending.question}\n{pending.why}"
            title = await self._client.choose(message, list(titles))
            chosen = None if title is None else titles.get(title, "deny")
        if chosen is not None and not pending.answer.done():
            pending.answer.set_result(chosen if chosen in pending.answers else "deny")

    def answer(self, request: str, text: str) -> None:
        """Answer a pending question; raises UsageError when it is not pending."""
        pending = self._open(request)
        if pending.answers:
            raise UsageError(f"{request} asks for leave.", hint="Answer it with redline.approve.")
        pending.answer.set_result(text)

    def approve(self, request: str, decision: Answer) -> None:
        """Give or deny leave; raises UsageError when it is not asked for, or not any more."""
        pending = self._open(request)
        if decision not in pending.answers:
            raise UsageError(
                f"{request} cannot be answered with {decision!r}.", hint=f"Give {', '.join(pending.answers)}."
            )
        pending.answer.set_result(decision)

    def _open(self, request: str) -> Pending:
        pending = self.pending.get(request)
        if pending is None or pending.answer.done():
            raise UsageError(f"There is no open question {request!r}.")
        return pending
