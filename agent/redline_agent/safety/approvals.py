"""Asking the person: what a question is, who may answer, how often it may be asked, and what an answer is worth later.

An answer for longer is kept by the request's grant key, a digest of what the person was shown. Nobody to ask, too many
questions or no answer in time all mean no.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from redline_agent.errors import ConfigError
from redline_agent.safety.commands import plain_words
from redline_agent.safety.gate import Standing
from redline_agent.safety.labels import Taint
from redline_agent.safety.requests import Command, Request
from redline_agent.text import escape_hidden

Answer = Literal["once", "session", "always", "deny"]
ANSWERS: tuple[Answer, ...] = ("deny", "once", "session", "always")

QUESTIONS_MAX = 30
"""Questions that one run may ask in all."""
WINDOW_S = 60.0
WINDOW_QUESTIONS_MAX = 6
"""Questions that one run may ask in a minute; the rest are denied unasked."""
SHOWN_CHARS_MAX = 2_000
_BLANKS = re.compile(r"[ \t]{9,}")


@dataclass(frozen=True, slots=True)
class Question:
    """What the person is asked: `what` is the exact act with nothing hidden in it, `why` the gate's reason and the
    labels.
    """

    run: str
    what: str
    why: str
    answers: tuple[Answer, ...]


Asker = Callable[[Question], Awaitable[Answer]]
"""How a person is asked; raising or any other answer than those offered is a denial."""


def question(run: str, request: Request, reason: str, taint: Taint) -> Question:
    """Return the question for a request. Answers for longer are offered only where a digest says all there is."""
    lasting = not isinstance(request, Command) or plain_words(request.text) == request.argv
    shown = _BLANKS.sub(lambda m: f"[{len(m[0])} blanks]", escape_hidden(request.shown()).replace("\n", "\\n"))
    whole = len(shown) <= SHOWN_CHARS_MAX
    answers: tuple[Answer, ...] = ANSWERS if lasting else ("deny", "once")
    why = f"{reason}; asked for {taint.shown()}" if taint.tainted else reason
    return Question(
        run,
        shown if whole else f"{shown[:SHOWN_CHARS_MAX]} [and {len(shown) - SHOWN_CHARS_MAX} more characters]",
        escape_hidden(why),
        answers if whole else ("deny",),  # what cannot be shown whole cannot be allowed
    )


@dataclass(slots=True)
class Rate:
    """How many questions a run has asked, and when."""

    clock: Callable[[], float] = time.monotonic
    asked: int = 0
    _recent: deque[float] = field(default_factory=deque[float])

    def refuses(self) -> str:
        """Count one more question; return why it is not asked, or ""."""
        now = self.clock()
        while self._recent and now - self._recent[0] > WINDOW_S:
            self._recent.popleft()
        if self.asked >= QUESTIONS_MAX:
            return f"this run has asked {QUESTIONS_MAX} questions already"
        if len(self._recent) >= WINDOW_QUESTIONS_MAX:
            return f"this run has asked {WINDOW_QUESTIONS_MAX} questions in a minute"
        self.asked += 1
        self._recent.append(now)
        return ""


class Memory:
    """What the user decided for longer: folders that are trusted, requests approved always. One file, mode 0600.

    Approvals for a session are kept by this process alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sessions: dict[str, set[str]] = {}

    def standing(self, root: Path, session: str) -> Standing:
        """Return what holds for a folder and a session now; an unreadable file means that nothing does."""
        try:
            data = self._read()
        except ConfigError:
            data = {}
        always = {entry["key"] for entry in data.get("always", []) if entry.get("folder") == str(root)}
        return Standing(
            trusted=str(root) in data.get("trusted", []),
            approved=frozenset(always | self._sessions.get(session, set())),
        )

    def trust(self, root: Path, trusted: bool = True) -> None:
        """Trust a folder, or take that back together with what was approved always there."""
        with self._changing() as data:
            folders = [each for each in data.get("trusted", []) if each != str(root)]
            data["trusted"] = [*folders, str(root)] if trusted else folders
            if not trusted:
                data["always"] = [each for each in data.get("always", []) if each.get("folder") != str(root)]

    def remember(self, root: Path, session: str, request: Request, answer: Answer) -> None:
        """Keep an approval for the session, or for always."""
        if answer == "session":
            self._sessions.setdefault(session, set()).add(request.grant_key())
        elif answer == "always":
            with self._changing() as data:
                entry = {
                    "folder": str(root), "key": request.grant_key(), "shown": request.shown()[:500], "at": time.time()
                }  # fmt: skip
                data.setdefault("always", []).append(entry)

    def always(self, root: Path) -> list[str]:
        """Return what was approved always in a folder, for `redline doctor` and the user's eyes."""
        return [entry["shown"] for entry in self._read().get("always", []) if entry.get("folder") == str(root)]

    def _read(self) -> dict[str, Any]:
        try:
            data: object = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.path} cannot be read ({error}), so nothing counts as trusted or approved.",
                hint="Mend it or delete it.",
            ) from error
        return cast("dict[str, Any]", data) if isinstance(data, dict) else {}

    @contextmanager
    def _changing(self) -> Generator[dict[str, Any]]:
        data = self._read()
        yield data
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".permissions-")  # 0600 by its nature
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(data, file, indent=1)
                Path(name).replace(self.path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error}).", hint="Check the state folder.") from error


async def nobody(_: Question) -> Answer:
    """Stand for a person where there is none."""
    return "deny"
