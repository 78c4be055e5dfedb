"""Hard limits of a run. Each has a name and a unit; none is advisory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from redline_agent.errors import LimitReached

FILE_BYTES_MAX = 8 * 2**20
"""A file above this is refused (read it by another tool)."""

READ_CHARS_MAX = 40_000
"""What one `read` shows at most."""

WALK_FILES_MAX = 50_000
"""How many files a walk of the workspace visits at most."""

SEARCH_HITS_MAX = 200
RESULT_CHARS_MAX = 40_000
REPLY_TOKENS_MAX = 16_000
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
    """What a run has used so far."""

    limits: Limits
    turns: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

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

    def seconds_left(self) -> float:
        """Seconds until `minutes_max`; never below 0."""
        return max(0.0, self.limits.minutes_max * 60 - (time.monotonic() - self.started_s))
