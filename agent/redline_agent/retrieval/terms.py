"""Words of code and of a person, made comparable: identifiers split, cased down, cut to their stems. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]+|[0-9]{3,}")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "our",
        "should",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "this",
        "those",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "not",
        "no",
        "all",
        "any",
        "also",
        "use",
        "uses",
        "used",
        "using",
        "make",
        "makes",
        "made",
        "more",
        "most",
        "now",
        "only",
        "when",
        "self",
        "cls",
        "def",
        "return",
        "import",
        "class",
        "none",
        "true",
        "false",
        "else",
        "elif",
        "try",
        "except",
        "raise",
        "pass",
        "lambda",
        "yield",
        "async",
        "await",
    ]
)


def words(text: str) -> list[str]:
    """Return the identifiers and words of a text, as they are."""
    return _WORD.findall(text)


@lru_cache(maxsize=200_000)
def parts(word: str) -> tuple[str, ...]:
    """Return the terms of one word: its parts' stems, and the whole where it has several."""
    found = [stem(part.lower()) for part in _PART.findall(word) if len(part) > 1]
    found = [part for part in found if part not in _STOP]
    whole = word.strip("_").lower()
    return (*found, whole) if len(found) > 1 else tuple(found)


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text, in order."""
    for word in _WORD.findall(text):
        yield from parts(word)


def of_path(path: str) -> Iterable[str]:
    """Return the terms of a path."""
    return list(terms(path.replace("/", " ").replace("-", " ").replace(".", " ")))


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Cut a word to a stem: endings that make the same word in a sentence and in a name."""
    for ending, least in (
        ("ations", 4), ("ation", 4), ("ings", 4), ("ing", 4), ("ers", 4), ("ies", 3), ("ed", 4), ("er", 5), ("es", 4),
        ("ly", 4), ("s", 3),
    ):  # fmt: skip
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word
