"""Hard limits of a run. Each has a name and a unit; none is advisory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from redline_agent.errors import LimitReached

FILE_BYTES_MAX = 8 * 2**20
"""A file above this is refused (read it by another tool)."""

READ_CHARS_MAX = 40_000
"""What one `read` shows at most."""

WALK_FILES_MAX = 50_000
"""How many files a walk of the workspace visits at most."""
NEVER_WALKED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".jj",
        "node_modules",
        "__pycache__",
        ".venv",
        "venv",
        ".tox",
        ".mypy_cache",
        ".pytest_cache",
        ".hypothesis",
        ".nox",
        ".gradle",
        ".parcel-cache",
        ".turbo",
        ".ruff_cache",
    }
)
"""Folders of no interest: what tools make, and version control's own."""

SEARCH_HITS_MAX = 200
RESULT_CHARS_MAX = 40_000
OUTPUT_CHARS_SHOWN = 10_000
"""What is shown of a command's output: head and tail; the rest is there on request."""

OUTPUT_CHARS_KEPT = 1_000_000
CALLS_AT_ONCE_MAX = 8
CALLS_REMEMBERED = 200
CONTEXT_TOKENS_MAX = 120_000
"""When a conversation is made smaller, unless `context.tokens_max` or the model's window says less."""

CHILDREN_AT_ONCE_MAX = 3
IDENTICAL_CALLS_MAX = 4
CUT_REPLIES_MAX = 3
"""Replies in a row that ended at max_tokens before the run gives up."""

RETRIES_MAX = 6
RETRY_WAIT_S_MAX = 120.0
PAUSES_MAX = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; the names are those of the `limits` settings."""

    turns_max: int = 40
    tokens_max: int = 1_000_000
    cost_usd_max: float = 5.0
    minutes_max: float = 30.0


@dataclass(slots=True)
class Meter:
    """What a run has used so far. A child's meter has turns of its own, and hands the rest on to its parent's."""

    limits: Limits
    turns: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    cost_known: bool = True
    started_s: float = field(default_factory=time.monotonic)
    parent: Meter | None = None

    def child(self, turns_max: int) -> Meter:
        """Return a meter for a child: its own turns, this one's tokens, money and time."""
        limits = replace(self.limits, turns_max=turns_max or self.limits.turns_max)
        return Meter(limits, started_s=self.started_s, parent=self)

    def add(self, tokens: int, bound_usd: float, *, known: bool = True) -> None:
        """Count a request; `bound_usd` is its cost, or the most that it may be when that is not `known`."""
        self.tokens += tokens
        self.cost_usd += bound_usd
        self.cost_known = self.cost_known and known
        if self.parent is not None:
            self.parent.add(tokens, bound_usd, known=known)

    @property
    def spent_usd(self) -> float | None:
        """The cost, None when some of it is not known."""
        return self.cost_usd if self.cost_known else None

    @property
    def left_usd(self) -> float:
        """What may still be spent."""
        own = self.limits.cost_usd_max - self.cost_usd
        return own if self.parent is None else min(own, self.parent.left_usd)

    def waited(self, seconds: float) -> None:
        """Leave out time that passed while others decided whether the run may go on."""
        self.started_s += seconds
        if self.parent is not None:
            self.parent.waited(seconds)

    def check(self) -> None:
        """Raise LimitReached when a limit is used up; call it before each request."""
        minutes = (time.monotonic() - self.started_s) / 60
        for name, used, most in (
            ("turns_max", self.turns, self.limits.turns_max),
            ("tokens_max", self.tokens, self.limits.tokens_max),
            ("cost_usd_max", self.cost_usd, self.limits.cost_usd_max),
            ("minutes_max", minutes, self.limits.minutes_max),
        ):
            if used >= most:
                raise LimitReached(
                    f"The run reached its limit {name} = {most:g}.",
                    limit=name,
                    hint="Raise it under [limits] in the configuration, or ask for a smaller step.",
                )
        if self.parent is not None:
            at, self.parent.turns = self.parent.turns, 0  # the parent's turns are not the child's to use up
            try:
                self.parent.check()
            finally:
                self.parent.turns = at

    def seconds_left(self) -> float:
        """Seconds until `minutes_max`; never below 0."""
        return max(0.0, self.limits.minutes_max * 60 - (time.monotonic() - self.started_s))
