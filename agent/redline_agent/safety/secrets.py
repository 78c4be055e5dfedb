"""Secrets inside text: found by what they look like, masked before a model, the journal or a log sees them.

A mask is a stable name (`REDLINE_SECRET_1a2b3c4d5e`), so that a model can edit around a secret without knowing it: in
an
edit of the same file the name stands for the secret again (`Masks.restored`). Nothing leads from the name to the
secret but
this process's table.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import tomllib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

PREFIX = "REDLINE_SECRET_"
_NAME = re.compile(PREFIX + r"[0-9a-f]{10}")
_CACHED_TEXTS = 64
_AGAIN_CHARS_MIN = 8
"""A found secret of at least this length is masked wherever it comes again, whatever stands around it."""
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x{4,}|\*{3,}|\.{3,}|-+|_+|none|null|true|false|changeme|change[-_]me|placeholder|example|dummy|sample|redacted|pass|passw(?:or)?d\d*"
    r"|secret|token|test(?:ing)?|your[-_].*|my[-_]?(?:secret|token|password|key)|insert[-_].*|todo|undefined|%[a-z_()]+s?|<.*>)$"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of `secrets.toml`."""

    id: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    entropy: float


@dataclass(frozen=True, slots=True)
class Found:
    """A secret in a text: where, and of which kind."""

    start: int
    end: int
    kind: str


@cache
def kinds() -> tuple[Kind, ...]:
    """Return the kinds of secrets, compiled once."""
    data = tomllib.loads(files("redline_agent.safety").joinpath("secrets.toml").read_text("utf-8"))
    return tuple(
        Kind(entry["id"], tuple(entry["words"]), re.compile(entry["pattern"]), float(entry.get("entropy", 0)))
        for entry in data["secret"]
    )


def find_secrets(text: str) -> list[Found]:
    """Return the secrets in a text, in order, none overlapping."""
    lowered = text.casefold()
    found = sorted(
        (each for kind in kinds() if any(word in lowered for word in kind.words) for each in _of_kind(kind, text)),
        key=lambda each: (each.start, -each.end),
    )
    kept: list[Found] = []
    for each in found:
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
    return kept


def _of_kind(kind: Kind, text: str) -> Iterator[Found]:
    named = "secret" in kind.pattern.groupindex
    for match in kind.pattern.finditer(text):
        start, end = match.span("secret") if named and match["secret"] is not None else match.span()
        value = text[start:end]
        if value and not _PLACEHOLDER.match(value) and not _NAME.search(value) and _entropy(value) >= kind.entropy:
            yield Found(start, end, kind.id)


def _entropy(value: str) -> float:
    """Bits a character, from the characters' own frequencies."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())


@dataclass(slots=True)
class Masks:
    """The names given to secrets by this process, and what stands behind them."""

    _key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    _behind: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    _done: OrderedDict[str, str] = field(default_factory=OrderedDict[str, str], repr=False)

    def masked(self, text: str) -> str:
        """Return the text with each secret replaced by its name. What was once found is masked wherever it comes
        again.
        """
        known = self._done.get(text)
        if known is not None:
            return known
        parts: list[str] = []
        at = 0
        for found in find_secrets(text):
            parts += [text[at : found.start], *self._names(text[found.start : found.end])]
            at = found.end
        result = "".join([*parts, text[at:]]) if parts else text
        for name, secret in self._behind.items():
            if len(secret) >= _AGAIN_CHARS_MIN and secret in result:
                result = result.replace(secret, name)
        self._done[text] = result
        if len(self._done) > _CACHED_TEXTS:
            self._done.popitem(last=False)
        return result

    def restored(self, text: str, whole: str) -> str:
        """Return the text with names replaced by their secrets, but only by secrets that `whole` has."""
        if PREFIX not in text:
            return text
        return _NAME.sub(lambda m: s if (s := self._behind.get(m[0], "")) and s in whole else m[0], text)

    def _names(self, secret: str) -> Iterator[str]:
        """A name a line, so that lines keep their numbers."""
        for line in secret.splitlines(keepends=True):
            bare = line.strip()
            yield line.replace(bare, self._name(bare)) if bare else line

    def _name(self, secret: str) -> str:
        name = PREFIX + hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:10]
        self._behind[name] = secret
        return name
