"""What is known of every file: its words, its symbols, whom it uses. Grows and shrinks a file at a time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from redline_agent.retrieval.terms import of_path, parts, words
from redline_agent.semantics.symbols import Symbol, symbols

FILE_CHARS_MAX = 400_000
"""Of a longer file only the beginning is read: it is data more often than code."""
_DOC = re.compile(r"\.(rst|md|txt|adoc)$", re.IGNORECASE)


@dataclass(slots=True)
class File:
    """One file: how often each term is in its path, its symbols' names and its text, and the identifiers that it uses.

    `tokens` is a count by bytes.
    """

    path: str
    tokens: int
    symbols: list[Symbol]
    fields: tuple[dict[str, int], dict[str, int], dict[str, int]]
    sizes: tuple[int, int, int]
    uses: frozenset[str]

    @property
    def is_doc(self) -> bool:
        """Whether it is prose."""
        return bool(_DOC.search(self.path))


def read(path: str, text: str) -> File:
    """Return what is known of a file's text."""
    text = text[:FILE_CHARS_MAX]
    found = symbols(text, path)
    used = Counter(words(text))
    body: Counter[str] = Counter()
    for word, count in used.items():
        for part in parts(word):
            body[part] += count
    named = Counter(part for each in found for part in parts(each.name))
    place = Counter(of_path(path))
    sizes = (place.total(), named.total(), body.total())
    return File(path, len(text) // 4, found, (place, named, body), sizes, frozenset(used))


@dataclass(slots=True)
class Corpus:
    """Every file of a folder, how many files have a term, and who defines a name."""

    files: dict[str, File] = field(default_factory=dict[str, File])
    having: Counter[str] = field(default_factory=Counter[str])
    totals: list[int] = field(default_factory=lambda: [0, 0, 0])
    definers: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def put(self, file: File) -> None:
        """Add a file, or what it has become."""
        self.drop(file.path)
        self.files[file.path] = file
        self.having.update(_terms(file))
        for at in range(3):
            self.totals[at] += file.sizes[at]
        for symbol in file.symbols:
            self.definers.setdefault(symbol.name, set()).add(file.path)

    def drop(self, path: str) -> None:
        """Forget a file."""
        file = self.files.pop(path, None)
        if file is None:
            return
        for term in _terms(file):
            self.having[term] -= 1
            if self.having[term] <= 0:
                del self.having[term]
        for at in range(3):
            self.totals[at] -= file.sizes[at]
        for symbol in file.symbols:
            places = self.definers.get(symbol.name)
            if places is not None:
                places.discard(path)
                if not places:
                    del self.definers[symbol.name]

    def definitions(self, name: str, under: str = "") -> Iterator[tuple[str, Symbol]]:
        """Yield the symbols of a name ("load", "Config.load"), files in order."""
        last = name.rsplit(".", 1)[-1].rsplit("::", 1)[-1]
        for path in sorted(self.definers.get(last, ())):
            if under not in ("", ".") and path != under and not path.startswith(under + "/"):
                continue
            for symbol in self.files[path].symbols:
                if symbol.name == last and ("." not in name or symbol.full.endswith(name)):
                    yield path, symbol


def _terms(file: File) -> set[str]:
    return {*file.fields[0], *file.fields[1], *file.fields[2]}
