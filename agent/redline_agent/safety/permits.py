"""Permits: the single-use tokens without which no executor does anything.

A permit is bound to the digest of one request. `Keeper` hands one out when the gate allows the request or the person
does;
an executor spends it against what it is about to do, at the last moment, so that neither an altered command nor a
second
use gets through. Nothing else makes a `Permit` (a house test).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redline_agent.errors import PermitRefused
from redline_agent.safety.requests import Request, digest


@dataclass(slots=True)
class Permit:
    """Leave to do exactly one thing, once."""

    bound_to: str
    spent: bool = field(default=False, init=False)

    def spend(self, request: Request) -> None:
        """Use it up for this request; raises PermitRefused when it is for another one, or used."""
        if self.spent:
            raise PermitRefused(f"This permit was used already, so this was not done: {request.shown()}.")
        self.spent = True
        if digest(request) != self.bound_to:
            raise PermitRefused(f"What was allowed is not what was about to happen: {request.shown()}.")


def issue(request: Request) -> Permit:
    """Return a permit for a request that the gate allowed, or that the person decided on."""
    return Permit(digest(request))
