"""What all workers together may spend, and how often they may ask. One coordinator keeps it; times in seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

WAIT_S = 0.5
"""After how long a worker asks again that must wait for what others have reserved."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The answer to a worker that wants to send a request: wait so long and send it, or ask `again`, or never."""

    wait_s: float = 0.0
    again: bool = False
    refused: str = ""


@dataclass(slots=True)
class Budget:
    """US dollars over all targets, and requests a minute (0: as many as they like)."""

    cost_usd_max: float
    per_minute: float
    spent_usd: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _reserved: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    _next_s: float = 0.0

    def ask(self, who: int, bound_usd: float) -> Leave:
        """Ask for one request that costs at most so much; that much is reserved until it is paid. A worker may have
        several under way. Raises ValueError for a bound that is none.
        """
        if not math.isfinite(bound_usd) or bound_usd < 0:
            raise ValueError("a bound of no amount")
        reserved = sum(map(sum, self._reserved.values()))
        if self.spent_usd + reserved + bound_usd > self.cost_usd_max and bound_usd > 0:
            if reserved:
                return Leave(WAIT_S, again=True)
            return Leave(refused=f"the next request could pass the campaign's cost_usd_max = {self.cost_usd_max:g}")
        self._reserved.setdefault(who, []).append(bound_usd)
        if not self.per_minute:
            return Leave()
        now = self.clock()
        begins = max(now, self._next_s)
        self._next_s = begins + 60.0 / self.per_minute
        return Leave(begins - now)

    def paid(self, who: int, cost_usd: float | None) -> float:
        """Note what one request of a worker's cost (None: not known, so what was reserved for it); returns what counts.

        Which of several it was is not known: the smallest reservation goes, so that never too little is held.
        """
        mine = sorted(self._reserved.pop(who, []))
        first = mine.pop(0) if mine else 0.0
        if mine:
            self._reserved[who] = mine
        counted = first if cost_usd is None or not math.isfinite(cost_usd) else max(0.0, cost_usd)
        self.spent_usd += counted
        return counted

    def reserved_usd(self, who: int) -> float:
        """Return what a worker's requests that are under way may cost at most."""
        return sum(self._reserved.get(who, ()))

    def gone(self, who: int, *, unpaid: bool = True) -> float:
        """Note that a worker asks for nothing more. What is still reserved may have been spent, so it counts (unless it
        is known to be `unpaid`); returns that.
        """
        left = sum(self._reserved.pop(who, [])) if unpaid else 0.0
        self._reserved.pop(who, None)
        self.spent_usd += left
        return left
