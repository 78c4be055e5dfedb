"""Where text came from, joined: what the gate and the approvals know of everything a model has seen. Pure.

Only the user and Redline itself are trusted. The workspace's own files, what commands print, the web and MCP servers
taint,
and so does everything that is made of them: a summary, a plan or a child starts with the join of what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

TRUSTED = frozenset({"user", "redline", "model"})
"""Sources that do not taint by themselves; a model's words are worth what it has read, which has labels of its own."""

_SHOWN_MAX = 3


class Labelled(Protocol):
    """What `messages.Label` has."""

    @property
    def source(self) -> str:
        """Who wrote the text."""
        ...

    @property
    def detail(self) -> str:
        """Which file, command or server."""
        ...

    @property
    def secret(self) -> bool:
        """Whether it is of a file of secrets."""
        ...


@dataclass(frozen=True, slots=True)
class Taint:
    """The join of labels: what untrusted text was seen, in order, and whether a secret was among it."""

    seen: tuple[str, ...] = ()
    secret: bool = False

    @property
    def tainted(self) -> bool:
        """Whether any untrusted text was seen."""
        return bool(self.seen)

    def shown(self) -> str:
        """Return "after reading a.py, b.md and 3 more", "" when nothing untrusted was seen."""
        if not self.seen:
            return ""
        latest = list(reversed(self.seen))
        more = f" and {len(latest) - _SHOWN_MAX} more" if len(latest) > _SHOWN_MAX else ""
        return f"after reading {', '.join(latest[:_SHOWN_MAX])}{more}"


CLEAN = Taint()


def taint_of(labels: Iterable[Labelled]) -> Taint:
    """Return the join of labels."""
    seen: dict[str, None] = {}
    secret = False
    for label in labels:
        secret = secret or label.secret
        if label.source not in TRUSTED:
            seen[label.detail or f"text of the {label.source}"] = None
    return Taint(tuple(seen), secret)


def join(*taints: Taint) -> Taint:
    """Return what a context is that was given all of these."""
    seen = dict.fromkeys(each for taint in taints for each in taint.seen)
    return Taint(tuple(seen), any(taint.secret for taint in taints))
