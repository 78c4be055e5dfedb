"""The rules of the gate as data: Redline's own (`rules.toml`), the user's, and the workspace's, which may only tighten.

A rule of the user's is one line: `run: pytest -q`, `run: git log *`, `read: docs/*.key`, `write: vendor/`,
`net: docs.example.org`, `mcp: NAME DIGEST`. Pure but for reading the package's own file once.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pathspec import GitIgnoreSpec

from redline_agent.config import KINDS, Permissions
from redline_agent.errors import ConfigError
from redline_agent.safety.commands import mentions, plain_words, runs_its_arguments
from redline_agent.safety.requests import Access, Command, Connect, Request, Server


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `rules.toml`; one that `yields` gives way to the user's own `read:` rule."""

    id: str
    effects: frozenset[str]
    verdict: Literal["block", "ask", "allow"]
    reason: str
    paths: GitIgnoreSpec
    patterns: tuple[str, ...] = ()
    yields: bool = False

    def speaks_of(self, path: str) -> bool:
        """Whether a pattern matches the path or a folder above it, whatever the case."""
        return self.paths.match_file(path.casefold().lstrip("/"))


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
class Line:
    """One rule of the user's or the workspace's: its kind, its words, and whose it is."""

    kind: str
    words: tuple[str, ...]
    text: str
    whose: str

    def denies(self, request: Request) -> bool:
        """Whether the request falls under the line, read as broadly as can be meant."""
        match request:
            case Command() if self.kind == "run":
                words = self.words[:-1] if self.words[-1] == "*" else self.words
                return not words or mentions(request.text, words)
            case Connect() if self.kind == "net":
                return self.words[0] == "*" or _host_matches(self.words[0], request)
            case Access():
                return self.speaks_of_file(request)
            case Server() if self.kind == "mcp":
                return self.words[0] in ("*", request.name)
            case _:
                return False

    def allows(self, request: Request) -> bool:
        """Whether the request is exactly what the line grants."""
        match request:
            case Command() if self.kind == "run":
                return self._grants_words(plain_words(request.text))
            case Connect() if self.kind == "net":
                return _host_matches(self.words[0], request)
            case Access() if request.effect == "read":
                return self._grants_file(request)
            case Server() if self.kind == "mcp":
                return self.words == (request.name, request.digest)
            case _:
                return False

    def _grants_words(self, words: tuple[str, ...] | None) -> bool:
        if words is None:
            return False
        if self.words[-1] != "*":
            return words == self.words
        return words[: len(self.words) - 1] == self.words[:-1] and not runs_its_arguments(words)

    def _grants_file(self, request: Access) -> bool:
        """A relative pattern grants inside the workspace folder, an absolute one outside it."""
        outside = request.place != "workspace"
        words = tuple(word for word in self.words if word.startswith(("/", "~/")) == outside)
        if outside:
            words = tuple(os.path.expanduser(word) for word in words)  # noqa: PTH111
        return bool(words) and replace(self, words=words).speaks_of_file(request)

    def speaks_of_file(self, request: Access) -> bool:
        """Whether the line's patterns match the file, for its kind of effect."""
        if (self.kind == "read") != (request.effect == "read") or self.kind not in ("read", "write"):
            return False
        patterns = [word.casefold().removeprefix("./") for word in self.words]
        return GitIgnoreSpec.from_lines(patterns).match_file(request.path.casefold().lstrip("/"))


def _host_matches(pattern: str, request: Connect) -> bool:
    name, _, port = pattern.partition(":")
    host = request.host.casefold().rstrip(".")
    if port and port != str(request.port):
        return False
    if name.startswith("*."):
        return host.endswith(name[1:].casefold())
    return host == name.casefold()


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that the gate knows before it is asked."""

    rules: tuple[Rule, ...]
    badges: tuple[Badge, ...]
    deny: tuple[Line, ...] = ()
    ask: tuple[Line, ...] = ()
    allow: tuple[Line, ...] = ()

    @property
    def hosts(self) -> bool:
        """Whether the user grants any connection at all: without one there is no proxy."""
        return any(line.kind == "net" for line in self.allow)


def line(text: str, whose: str) -> Line:
    """Read one line; raises ConfigError when it cannot be meant."""
    kind, colon, rest = text.partition(":")
    kind = kind.strip()
    if not colon or kind not in KINDS or not rest.strip():
        raise ConfigError(
            f"{whose}: {text!r} is not a permission.", hint=f"Write KIND: WHAT, where KIND is {', '.join(KINDS)}."
        )
    try:
        words = tuple(shlex.split(rest))
    except ValueError as error:
        raise ConfigError(f"{whose}: {text!r} has an open quote.") from error
    return Line(kind, words, text, whose)


def with_permissions(rules: Rules, given: Permissions, whose: str = "your settings") -> Rules:
    """Lay the user's lines over the rules."""
    return replace(
        rules,
        deny=(*rules.deny, *(line(each, whose) for each in given.deny)),
        ask=(*rules.ask, *(line(each, whose) for each in given.ask)),
        allow=(*rules.allow, *(line(each, whose) for each in given.allow)),
    )


def tightened(rules: Rules, denied: Iterable[str], asked: Iterable[str] = ()) -> Rules:
    """Lay the workspace's lines over the rules: what it allows is not even read. Unreadable lines are left out."""
    more: dict[str, list[Line]] = {"deny": [], "ask": []}
    for name, texts in (("deny", denied), ("ask", asked)):
        for text in texts:
            try:
                more[name].append(line(text, "the workspace's settings"))
            except ConfigError:
                continue
    return replace(rules, deny=(*rules.deny, *more["deny"]), ask=(*rules.ask, *more["ask"]))


@cache
def built_in_rules() -> Rules:
    """Return the rules that come with Redline."""
    data = tomllib.loads(files("redline_agent.safety").joinpath("rules.toml").read_text("utf-8"))
    return Rules(tuple(map(_rule, data["rule"])), tuple(map(_badge, data["badge"])))


@cache
def secret_files() -> Rule:
    """Return the rule that names files of secrets."""
    return next(rule for rule in built_in_rules().rules if rule.id == "secret-files")


def _rule(entry: dict[str, Any]) -> Rule:
    return Rule(
        entry["id"],
        frozenset(entry["effects"]),
        entry["verdict"],
        entry["reason"],
        _spec(entry["paths"]),
        tuple(entry["paths"]),
        bool(entry.get("yields")),
    )


def _badge(entry: dict[str, Any]) -> Badge:
    patterns: list[str] = entry["paths"]
    names = [pattern for pattern in patterns if "/" not in pattern]
    return Badge(entry["reason"], _spec(names), _spec([pattern for pattern in patterns if "/" in pattern]))


def _spec(patterns: list[str]) -> GitIgnoreSpec:
    """Match at any depth: a pattern with a slash inside would otherwise hold for the workspace folder alone."""
    return GitIgnoreSpec.from_lines(
        f"**/{pattern}".casefold() if "/" in pattern.rstrip("/") else pattern.casefold() for pattern in patterns
    )
