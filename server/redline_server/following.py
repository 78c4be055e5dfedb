"""Background runs of the workspace's folders, whoever started them: found by their sockets, shown as progress, and
their questions put to the person here too. A run that ends brings its proposal into the list. Imported with the first
run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from redline_agent import live
from redline_agent.errors import RedlineError
from redline_agent.jobs.orders import log_of
from redline_agent.safety.approvals import Question
from redline_agent.text import one_line, plural

from redline_server.client import Client
from redline_server.questions import PENDING_MAX, Questions

LOOK_EVERY_S = 1.0
LOOK_S_MAX = 5.0
START_S_MAX = 20.0
"""How long a worker that was started here has to be reached."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Followed:
    """One background run: its socket, what it said last, and the questions that were put here."""

    root: Path
    path: Path
    said: dict[str, Any]
    number: int
    asked: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.said["runId"])

    @property
    def token(self) -> str:
        """The token of its progress: of its own for each time that it is followed."""
        return f"redline-{self.run}-background-{self.number}"


class Following:
    """All background runs that this server knows of."""

    def __init__(
        self,
        client: Client,
        questions: Questions,
        ended: Callable[[Path, str], tuple[str, str]],
        journal: Callable[[Path], Path],
    ) -> None:
        self._client = client
        self._questions = questions
        self._ended = ended
        self._journal = journal
        self._others: set[Path] = set()
        self._runs: dict[str, Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._roots: list[Path] = []

    def watch(self, roots: list[Path]) -> None:
        """Begin to look for runs of some folders."""
        new = [root for root in roots if root not in self._roots]
        self._roots += new
        if new and len(self._roots) == len(new):
            self._keep(self._look_for_them())

    async def _look_for_them(self) -> None:
        while True:
            for root in list(self._roots):
                try:
                    await self._look(root)
                except RedlineError:
                    logger.warning("Background runs of %s cannot be looked for", root, exc_info=True)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, root: Path) -> None:
        there = set(live.others(self._journal(root)))
        for path in there - self._others - {each.path for each in self._runs.values() if self._goes_on(each)}:
            said = await live.talk(path, {"do": "job"}, LOOK_S_MAX)
            if said is None:
                continue  # it is starting, busy or dead
            if "runId" not in said:
                self._others.add(path)  # another editor's server
            else:
                self.follow(Followed(root, path, said, next(self._numbers)))
        self._others &= there

    def expect(self, root: Path, run: str) -> None:
        """Follow a run that was just started here as soon as it can be reached; tell when it does not come."""
        self.watch([root])
        self._keep(self._expect(root, run))

    async def _expect(self, root: Path, run: str) -> None:
        until = time.monotonic() + START_S_MAX
        while run not in self._runs and log_of(run).exists() and time.monotonic() < until:  # noqa: ASYNC110  another process
            await asyncio.sleep(0.1)
        if run in self._runs:
            return
        state, outcome = self._ended(root, run)
        if state or outcome != "running":  # it was over before it could be followed
            self._client.show(f"Redline (background, {outcome}): {state}")
        elif log_of(run).exists():
            words = log_of(run).read_text("utf-8", "replace")[-500:]
            self._client.show(f"Redline: the background run {run} did not start. {words}".strip(), error=True)

    def follow(self, followed: Followed) -> None:
        """Show a run until its end."""
        self._runs[followed.run] = followed
        self._keep(self._follow(followed))

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("Following a background run failed", exc_info=error)

    def _goes_on(self, followed: Followed) -> bool:
        return not followed.said["outcome"]

    async def _follow(self, followed: Followed) -> None:
        after, showing = 0, False
        last: dict[str, Any] = followed.said
        if await self._client.create_progress(followed.token):
            showing = True
            title = f"Redline (background): {one_line(followed.said['instruction'], 60)}"
            self._client.progress(followed.token, lsp.WorkDoneProgressBegin(title=title, cancellable=True))
        try:
            while True:
                said = await live.talk(followed.path, {"do": "watch", "after": after})
                if said is None or "next" not in said:
                    last = {**followed.said, "state": "interrupted", "outcome": "interrupted", "pending": []}
                    break
                last, after = said, said["next"]
                if not said["outcome"]:  # its end shows when its proposal is in the list
                    followed.said = said
                if showing and said["notes"]:
                    self._client.progress(followed.token, lsp.WorkDoneProgressReport(message=said["notes"][-1][1]))
                self._ask(followed, said)
                if said["over"]:
                    break
        finally:
            for task in followed.asked.values():
                task.cancel()
            if showing:
                self._client.progress(followed.token, lsp.WorkDoneProgressEnd(message=str(last["state"])))
        self._tell(followed, last)

    def _tell(self, followed: Followed, said: dict[str, Any]) -> None:
        """Bring what it proposes into the list, and say how it ended."""
        outcome = str(said["outcome"])
        try:
            state, known = self._ended(followed.root, followed.run)
            if outcome == "interrupted" and known not in ("running", "interrupted"):  # its last words were not heard
                outcome = known
                said = {**said, "state": known, "outcome": known}
        except RedlineError as error:
            state = f"its proposal cannot be read: {error}"
        followed.said = said
        words = one_line(str(said["answer"] or said["instruction"]), 300)
        if outcome == "interrupted":
            words = f"It was cut off. Go on with redline.resume ({said['sessionId']})."
        what = state or words
        self._client.show(
            f"Redline (background, {outcome}): {what if state else ''} {words}".replace("  ", " "),
            error=outcome in ("failed", "refused", "limit", "interrupted"),
        )

    # ---- questions

    def _ask(self, followed: Followed, said: dict[str, Any]) -> None:
        """Put new questions to the person here; one that was answered elsewhere is taken back."""
        pending = {str(each["requestId"]): each for each in said["pending"]}
        for ident in [ident for ident in followed.asked if ident not in pending]:
            followed.asked.pop(ident).cancel()
        for ident, each in pending.items():
            if ident not in followed.asked and len(self._questions.pending) < PENDING_MAX:
                followed.asked[ident] = asyncio.create_task(self._put(followed, ident, each))

    async def _put(self, followed: Followed, ident: str, pending: dict[str, Any]) -> None:
        answers = tuple(pending.get("answers", ()))
        message: dict[str, Any] = {"do": "answer", "requestId": ident}
        if answers:
            question = Question(followed.run, str(pending["question"]), str(pending["why"]), answers)
            decision = await self._questions.leave(followed.run, question, "", 0)
            message = {"do": "approve", "requestId": ident, "decision": decision}
        else:
            words = await self._questions.words(followed.run, str(pending["question"]), "", 0, None)
            if words is None:
                return  # nobody is here: it goes on waiting for somebody
            message["text"] = words
        said = await live.talk(followed.path, message)
        if said is not None and "error" in said:
            self._client.show(f"Redline: {said['error']}")

    # ---- for commands

    def describe(self, run: str | None) -> list[dict[str, Any]]:
        """Return background runs in the shape of `redline.runs`; their questions have the ids that are open here."""
        wanted = [each for each in self._runs.values() if run in (None, each.run)]
        return [
            {**{k: v for k, v in each.said.items() if k not in ("notes", "next", "over", "pid")},
             "pending": [p.as_json() for p in self._questions.pending.values() if p.run == each.run]}
            for each in wanted
        ]  # fmt: skip

    def cancel(self, run: str) -> None:
        """Cancel a run; its end is told when it has come."""
        self._keep(self._cancel(self._runs[run]))

    async def _cancel(self, followed: Followed) -> None:
        await live.talk(followed.path, {"do": "cancel"})

    def going_on(self, run: str) -> Followed | None:
        """Return a run that goes on in the background."""
        found = self._runs.get(run)
        return found if found and self._goes_on(found) else None

    def by_token(self, token: str | int) -> str | None:
        """Return the run of a progress token."""
        return next((each.run for each in self._runs.values() if each.token == token), None)

    def tell(self, followed: Followed, message: dict[str, Any]) -> Awaitable[dict[str, Any] | None]:
        """Send a run a message; returns what to wait for."""
        return live.talk(followed.path, message)

    async def close(self) -> None:
        """Stop following; the runs go on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def proposed(count: int, files: int) -> str:
    """Say what a proposal has."""
    return f"{plural(count, 'change')} in {plural(files, 'file')} proposed."
