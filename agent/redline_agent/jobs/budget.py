"""What all workers together may spend, and how often they may ask. One coordinator keeps it; times in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

WAIT_S = 0.5
"""After how long a worker asks again that must wait for what others have reserved."""


@dataclass(slots=True)
class Budget:
    """US dollars over all targets, and requests a minute (0: as many as they like)."""

    cost_usd_max: float
    per_minute: float
    spent_usd: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _reserved: dict[int, float] = field(default_factory=dict[int, float])
    _next_s: float = 0.0

    def ask(self, who: int, bound_usd: float) -> tuple[float, str]:
        """Ask for one request that costs at most so much: how long to wait before asking again (0: it may go), or why
        it may never go.
        """
        others = sum(each for ident, each in self._reserved.items() if ident != who)
        if self.spent_usd + others + bound_usd > self.cost_usd_max and bound_usd > 0:
            if others:
                return WAIT_S, ""
            return 0.0, f"the next request could pass the campaign's cost_usd_max = {self.cost_usd_max:g}"
        now = self.clock()
        if self.per_minute and now < self._next_s:
            return min(self._next_s - now, 60.0), ""
        if self.per_minute:
            self._next_s = now + 60.0 / self.per_minute
        self._reserved[who] = bound_usd
        return 0.0, ""

    def paid(self, who: int, cost_usd: float | None) -> float:
        """Note what a request cost (None: not known, so what was reserved for it); returns what was counted."""
        counted = self._reserved.pop(who, 0.0) if cost_usd is None else cost_usd
        self._reserved.pop(who, None)
        self.spent_usd += counted
        return counted

    def gone(self, who: int) -> float:
        """Note that a worker has gone: what it had reserved may have been spent, so it counts; returns that."""
        return self.paid(who, None)
