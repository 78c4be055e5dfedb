"""The gate: a pure function from a request for a side effect to block or allow, with the reason.

No model and no I/O in it; the rules are data (`rules.toml`), read once. What no rule allows is blocked. Asking
belongs to effects that leave the overlay, and no tool has one yet, so nothing here answers "ask".
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pathspec import GitIgnoreSpec

from redline_agent.text import has_hidden

Effect = Literal["read", "write", "delete", "move"]
Verdict = Literal["block", "allow"]


@dataclass(frozen=True, slots=True)
class Access:
    """One side effect on one resolved path of the workspace."""

    effect: Effect
    path: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says; `rule` names the rule that decided."""

    verdict: Verdict
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the rules."""

    id: str
    effects: frozenset[str]
    verdict: Verdict
    reason: str
    paths: GitIgnoreSpec

    def speaks_of(self, path: str) -> bool:
        """Whether a pattern matches the path or a folder above it, whatever the case."""
        return self.paths.match_file(path.casefold())


@dataclass(frozen=True, slots=True)
class Badge:
    """Names of files that run later; `names` are of the file itself, `paths` of a folder above it too."""

    reason: str
    names: GitIgnoreSpec
    paths: GitIgnoreSpec

    def speaks_of(self, path: str) -> bool:
        """Whether the file is one of them."""
        path = path.casefold()
        return self.names.match_file(path.rsplit("/", 1)[-1]) or self.paths.match_file(path)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, and the badges of files that run later."""

    rules: tuple[Rule, ...]
    badges: tuple[Badge, ...]


def decide(access: Access, rules: Rules) -> Decision:
    """Return the first rule's verdict that speaks of this effect on this path; blocked where none does."""
    for rule in rules.rules:
        if access.effect in rule.effects and rule.speaks_of(access.path):
            return Decision(rule.verdict, rule.id, rule.reason)
    return Decision("block", "default", "no rule allows it")


def decide_all(accesses: Sequence[Access], rules: Rules) -> tuple[Access, Decision] | None:
    """Return the first blocked access with its decision, or None when all are allowed."""
    for access in accesses:
        decision = decide(access, rules)
        if decision.verdict != "allow":
            return access, decision
    return None


def badge(path: str, new_text: str, rules: Rules) -> str:
    """Why a bulk accept must leave this file's change for a single decision; "" when it need not."""
    for each in rules.badges:
        if each.speaks_of(path):
            return each.reason
    if has_hidden(new_text):
        return "the new text has invisible or control characters"
    if '"$schema"' in new_text and "://" in new_text:
        return "the new text names a remote schema, which editors fetch"
    return ""


@cache
def built_in_rules() -> Rules:
    """Return the rules that come with Redline."""
    data = tomllib.loads(files("redline_agent.safety").joinpath("rules.toml").read_text("utf-8"))
    return Rules(tuple(map(_rule, data["rule"])), tuple(map(_badge, data["badge"])))


def _rule(entry: dict[str, Any]) -> Rule:
    return Rule(entry["id"], frozenset(entry["effects"]), entry["verdict"], entry["reason"], _spec(entry["paths"]))


def _badge(entry: dict[str, Any]) -> Badge:
    patterns: list[str] = entry["paths"]
    names = [pattern for pattern in patterns if "/" not in pattern]
    return Badge(entry["reason"], _spec(names), _spec([pattern for pattern in patterns if "/" in pattern]))


def _spec(patterns: list[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(pattern.casefold() for pattern in patterns)
