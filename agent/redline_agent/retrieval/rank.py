"""Which files a task is about: words weighted by where they stand, then what uses and tests the likeliest ones. Pure.

The first score is BM25 over three fields (path, symbols' names, text) whose counts are added before they are damped.
Then the reference graph speaks: a file that defines what the likeliest ones use, or whose name pairs with theirs (a
module and its test), gets a share of their score. The weights were chosen on public histories
(tests/bench/retrieval.py).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from redline_agent.retrieval.corpus import Corpus, File
from redline_agent.retrieval.terms import parts, terms, words

DAMPING = 6.0
WEIGHTS = (10.0, 3.0, 1.0)
LENGTH = (0.3, 0.5, 0.65)
"""How much each field's length counts against it."""
PROSE = 0.85
"""What prose counts beside code."""
PAIRED, USED = 0.4, 0.05
"""The share of a likely file's score that its pair, and what it uses, gets."""
HEADS = 5
"""How many of the likeliest files hand on a share."""
OPEN_BONUS, HERE_BONUS = 1.15, 2.0
_DEFINERS_MAX = 5
_SYMBOLS_MAX = 12
_MEANT = 0.5
"""A symbol below this has nothing of the task in its name."""


@dataclass(slots=True)
class Ranked:
    """A file and why it is here; `lines` are the symbols to show, as lines from 1."""

    file: File
    score: float
    why: str
    lines: list[int] = field(default_factory=list[int])


def rank(
    corpus: Corpus, query: str, *, limit: int, here: Iterable[str] = (), opened: Iterable[str] = ()
) -> list[Ranked]:
    """Return the likeliest files, best first; `here` are files that the task names, `opened` those in the editor."""
    wanted = Counter(terms(query))
    scores = _by_words(corpus, wanted)
    why = dict.fromkeys(scores, "its words")
    _share(corpus, scores, why)
    for path in opened:
        if path in corpus.files:
            scores[path] = scores.get(path, 0.0) * OPEN_BONUS + 0.01
    best = max(scores.values(), default=1.0)
    for place in here:
        for path in corpus.files:
            if path == place:
                scores[path] = best * HERE_BONUS
                why[path] = "you are there"
            elif place == "." or path.startswith(place + "/"):
                scores[path] = scores.get(path, 0.0) * OPEN_BONUS
    ordered = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return [
        Ranked(
            corpus.files[path], score, why.get(path, "it is open"), _lines(corpus, corpus.files[path], wanted, query)
        )
        for path, score in ordered
        if score > 0
    ]


def _rarity(corpus: Corpus, term: str) -> float:
    having = corpus.having.get(term, 0)
    return math.log(1 + (len(corpus.files) - having + 0.5) / (having + 0.5))


def _by_words(corpus: Corpus, wanted: Counter[str]) -> dict[str, float]:
    count = len(corpus.files) or 1
    means = [max(total / count, 1.0) for total in corpus.totals]
    rarity = {term: _rarity(corpus, term) for term in wanted if term in corpus.having}
    scores: dict[str, float] = {}
    for path, file in corpus.files.items():
        score = 0.0
        norms = None
        for term, weight in rarity.items():
            found = 0.0
            for at, have in enumerate(file.fields):
                times = have.get(term, 0)
                if times:
                    norms = norms or [1 - b + b * s / m for b, s, m in zip(LENGTH, file.sizes, means, strict=True)]
                    found += WEIGHTS[at] * times / norms[at]
            if found:
                score += weight * found * (DAMPING + 1) / (found + DAMPING)
        if score:
            scores[path] = score * (PROSE if file.is_doc else 1.0)
    return scores


def _share(corpus: Corpus, scores: dict[str, float], why: dict[str, str]) -> None:
    """Let the likeliest files hand on a share of their score."""
    heads = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:HEADS]
    names: dict[str, list[str]] = defaultdict(list)
    for path, file in corpus.files.items():
        if not file.is_doc:
            names[_base(path)].append(path)
    for path, score in heads:
        for other in names[_base(path)] if path in corpus.files else ():
            if other != path and scores.get(other, 0.0) * 0.5 + score * PAIRED > scores.get(other, 0.0):
                scores[other] = scores.get(other, 0.0) * 0.5 + score * PAIRED
                why.setdefault(other, f"it pairs with {path}")
        for other, share in _used_by(corpus, corpus.files[path]).items():
            if share:
                scores[other] = scores.get(other, 0.0) + score * USED * share
                why.setdefault(other, f"{path} uses it")


def _used_by(corpus: Corpus, file: File) -> dict[str, float]:
    """Files that define names which this one uses: each name counts by how few define it."""
    found: Counter[str] = Counter()
    for name in file.uses:
        definers = corpus.definers.get(name, ())
        if 0 < len(definers) <= _DEFINERS_MAX and file.path not in definers:
            for path in definers:
                found[path] += 1
    total = found.total()
    return {path: count / total for path, count in found.most_common(HEADS)} if total else {}


def _base(path: str) -> str:
    name = path.rsplit("/", 1)[-1].split(".", maxsplit=1)[0].lower().strip("_")
    return name.removeprefix("test_").removesuffix("_test").removesuffix("_spec").removeprefix("test")


def _lines(corpus: Corpus, file: File, wanted: Counter[str], query: str) -> list[int]:
    """The file's symbols that the task may mean, in the file's order; those that it names come first when cut."""
    said = set(words(query))
    scored: list[tuple[float, int]] = []
    for symbol in file.symbols:
        own = sum(_rarity(corpus, part) for part in {*parts(symbol.name)} if part in wanted)
        exact = 20.0 if symbol.name in said else 0.0
        scored.append((-(own + exact) + (0.001 * symbol.depth), symbol.line))
    scored.sort()
    meant = [each for each in scored if each[0] < -_MEANT]
    scored = meant or scored
    return sorted(line for _, line in scored[:_SYMBOLS_MAX])


def symbols_of(ranked: Ranked) -> Sequence[tuple[int, str]]:
    """Return the ranked file's symbols to show, {line, first line of code}."""
    wanted = set(ranked.lines)
    return [(each.line, each.text[:160]) for each in ranked.file.symbols if each.line in wanted]
