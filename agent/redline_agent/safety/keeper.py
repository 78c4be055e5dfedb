"""The keeper: asks the gate, and the person where the gate says so, and hands out permits. One for each run.

The gate itself is pure (`gate.py`); here is the state around it: what was read so far, what was granted, how often
was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from redline_agent.errors import PathRefused
from redline_agent.safety.approvals import Answer, Asker, Memory, Rate, nobody, question
from redline_agent.safety.gate import NOBODY, Decision, Standing, decide
from redline_agent.safety.labels import CLEAN, Taint
from redline_agent.safety.permits import Permit, issue
from redline_agent.safety.places import places
from redline_agent.safety.requests import Access, Apply, Command, Connect, Request, Server, digest
from redline_agent.safety.rules import Rules, built_in_rules
from redline_agent.text import one_line

ANSWER_S_MAX = 600.0


class Blocked(PathRefused):
    """The gate, or the person, said no; `decision` tells which rule."""

    def __init__(self, request: Request, decision: Decision) -> None:
        what = f"{request.effect} {one_line(request.path, 300)}" if isinstance(request, Access) else _short(request)
        hint = "Do not try to get round it."
        super().__init__(f"Blocked by the rule {decision.rule}: {what}: {decision.reason}.", hint=hint)
        self.decision = decision


def permit_to_apply(request: Apply, root: Path) -> Permit:
    """Return the permit for what the user accepted; raises Blocked for what is never written."""
    decision = decide(request, CLEAN, built_in_rules(), NOBODY)
    inside = places().beneath(root)
    if any(_within(path, inside) for path, _, _ in request.files):
        decision = Decision("block", "protected", "it is a file of your secrets or of the system")
    if decision.verdict != "allow":
        raise Blocked(request, decision)
    return issue(request)


def _within(path: str, places_inside: tuple[str, ...]) -> bool:
    return any(path == each or path.startswith(each + "/") for each in places_inside)


def _short(request: Request) -> str:
    return f"run {one_line(request.text, 200)}" if isinstance(request, Command) else request.shown()


@dataclass(slots=True)
class Keeper:
    """Decides on a run's requests. `taint` says what the run's context has seen by now."""

    rules: Rules
    root: Path
    run: str = ""
    session: str = ""
    memory: Memory | None = None
    ask: Asker = nobody
    taint: Callable[[], Taint] = field(default=lambda: CLEAN)
    rate: Rate = field(default_factory=Rate)
    trusted: bool | None = None
    _protected: tuple[str, ...] | None = None

    @property
    def protected(self) -> tuple[str, ...]:
        """Protected places of the machine that lie inside the workspace folder, as relative paths; mostly none."""
        if self._protected is None:
            self._protected = places().beneath(self.root)
        return self._protected

    def standing(self) -> Standing:
        """Return what the user said before."""
        standing = self.memory.standing(self.root, self.session) if self.memory else Standing()
        return standing if self.trusted is None else Standing(self.trusted, standing.approved)

    def decide(self, request: Request) -> Decision:
        """Return the gate's verdict, without asking anybody."""
        if isinstance(request, Access) and request.place == "workspace" and _within(request.path, self.protected):
            request = replace(request, place="protected")
        needs_standing = not isinstance(request, Access) or request.place != "workspace" or request.links > 1
        standing = self.standing() if needs_standing or self.rules.ask else Standing()
        taint = (
            self.taint() if isinstance(request, Command | Connect | Server) else CLEAN
        )  # the join of a whole history
        return decide(request, taint, self.rules, standing)

    def allowed(self, request: Request) -> bool:
        """Whether the gate allows it without a question."""
        return self.decide(request).verdict == "allow"

    def permit(self, request: Request, leave: Permit | None = None) -> Permit:
        """Return a permit for what needs no question; raises Blocked.

        `leave` is what the person gave for this very file, before it was known what is written there.
        """
        decision = self.decide(request)
        if decision.verdict == "ask" and isinstance(request, Access):
            named = digest(replace(request, content=""))
            if leave is not None and not leave.spent and leave.bound_to == named:
                return issue(request)
        if decision.verdict != "allow":
            raise Blocked(request, decision)
        return issue(request)

    async def obtain(self, request: Request) -> tuple[Permit, Decision]:
        """Return a permit, asking the person where the gate says so; raises Blocked."""
        decision = self.decide(request)
        if decision.verdict == "allow":
            return issue(request), decision
        if decision.verdict == "block":
            raise Blocked(request, decision)
        answer, why_not = await self._answer(request, decision)
        if answer == "deny":
            raise Blocked(request, Decision("block", "not-approved", f"{decision.reason}; {why_not}"))
        if self.memory:
            self.memory.remember(self.root, self.session, request, answer)
        return issue(request), Decision("allow", f"approved-{answer}", "you approved it", decision.secret)

    async def _answer(self, request: Request, decision: Decision) -> tuple[Answer, str]:
        if self.ask is nobody:
            return "deny", "there is nobody to ask"
        too_many = self.rate.refuses()
        if too_many:
            return "deny", too_many
        asked = question(self.run, request, decision.reason, self.taint())
        if asked.answers == ("deny",):
            return "deny", "it is too long to be shown whole"
        try:
            answer = await asyncio.wait_for(self.ask(asked), ANSWER_S_MAX)
        except TimeoutError:
            return "deny", f"nobody answered within {ANSWER_S_MAX:.0f} s"
        return (answer, "") if answer in asked.answers and answer != "deny" else ("deny", "the user said no")
