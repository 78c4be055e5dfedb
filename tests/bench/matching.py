"""Where edits go: real commits of public packages, the edit that makes each damaged in the ways that models damage them.

    python tests/bench/matching.py GIT_DIR [GIT_DIR ...] [--edits 300]

For each kind of damage: how many of the edits came out as the commit has it (correct), as something else (wrong), or
were refused; by Redline's matching, by exact matching alone, and by the likeliest lines (fuzzy, 0.9). "ambiguous" are
edits whose place is there twice: there every application is wrong. A damaged edit that still quotes a place of the file
word for word, once, is no damaged edit but another one, and left out.
"""

import argparse
import difflib
import random
import subprocess
from collections import Counter
from pathlib import Path

from redline_agent.errors import EditRefused
from redline_agent.workspace.hunks import changes
from redline_agent.workspace.matching import replace

CONTEXT = 2


def git(folder, *args):
    return subprocess.run(["git", "--git-dir", folder, *args], capture_output=True, check=True).stdout


def commits(folder, wanted):
    """(old text, new text) of Python files with one small change, newest commits first."""
    found = []
    log = git(folder, "log", "--no-merges", "--format=%H", "-n", "4000", "HEAD").decode().split()
    for commit in log:
        if len(found) >= wanted:
            return found
        listed = git(folder, "diff-tree", "-r", "--no-commit-id", "--diff-filter=M", commit).decode().splitlines()
        for line in listed[:5]:
            meta, path = line.split("\t", 1)
            _, _, old, new, _ = meta.split()
            if not path.endswith(".py"):
                continue
            try:
                pair = tuple(git(folder, "cat-file", "blob", blob).decode() for blob in (old, new))
            except (UnicodeDecodeError, subprocess.CalledProcessError):
                continue
            if "\r" not in pair[0] + pair[1] and len(pair[0]) < 200_000:
                found.append(pair)
    return found


def edits(pairs):
    """(text, old, new, wanted text): one hunk of a commit with its lines around it, unique in the file."""
    for before, after in pairs:
        old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
        for change in changes(old_lines, new_lines):
            if change.end - change.start > 15 or len(change.new) > 15:
                continue
            start, end = max(0, change.start - CONTEXT), min(len(old_lines), change.end + CONTEXT)
            old = "".join(old_lines[start:end])
            new = "".join([*old_lines[start : change.start], *change.new, *old_lines[change.end : end]])
            wanted = "".join([*old_lines[: change.start], *change.new, *old_lines[change.end :]])
            if old.strip() and old != new and before.count(old) == 1:
                yield before, old, new, wanted


# ---- damage: each gives (text, old, new, wanted), or None where it does not apply


def lines(function):
    return lambda text: "".join(map(function, text.splitlines(keepends=True)))


indent = lines(lambda line: "    " + line if line.strip() else line)
dedent = lines(lambda line: line.removeprefix("    "))
tabs = lines(lambda line: "\t" * ((len(line) - len(line.lstrip(" "))) // 4) + line.lstrip(" "))
trailing = lines(lambda line: line.rstrip("\n") + "  \n" if line.endswith("\n") else line)
curly = str.maketrans({"'": "\u2019", '"': "\u201d", "-": "\u2013"})
crlf = lines(lambda line: line.replace("\n", "\r\n"))


def both(function):
    def damage(text, old, new, wanted, _):
        return (text, function(old), function(new), wanted) if function(old) != old else None

    return damage


def without_a_line(text, old, new, wanted, rng):
    part = old.splitlines(keepends=True)
    if len(part) < 4:
        return None
    del part[rng.randrange(1, len(part) - 1)]
    return text, "".join(part), new, wanted


def with_a_line_twice(text, old, new, wanted, rng):
    part = old.splitlines(keepends=True)
    at = rng.randrange(len(part))
    return text, "".join([*part[:at], part[at], *part[at:]]), new, wanted


def with_dots(text, old, new, wanted, _):
    part = old.splitlines(keepends=True)
    return (text, "".join([part[0], "    ...\n", part[-1]]), new, wanted) if len(part) > 4 else None


def stale(text, old, new, wanted, _):
    """The first line of context is not as it is in the file any more."""
    first = old.splitlines(keepends=True)[0]
    if len(first.strip()) < 8 or not new.startswith(first):
        return None
    other = first.replace(first.strip()[:4], first.strip()[:4][::-1], 1)
    return (text, other + old[len(first) :], other + new[len(first) :], wanted) if other != first else None


def ambiguous(text, old, new, _, __):
    """The same lines are there once more."""
    return text.rstrip("\n") + "\n\n\n" + old, old, new, None


def near_duplicate(text, old, new, wanted, _):
    """Lines that are nearly the same are there as well."""
    part = old.splitlines(keepends=True)
    twin = next((n for n, line in enumerate(part) if len(line.strip()) > 8), None)
    if twin is None:
        return None
    part[twin] = part[twin].rstrip("\n") + "  # twin\n"
    more = "\n\n\n" + "".join(part)
    return text.rstrip("\n") + more, old, new, wanted.rstrip("\n") + more


def near_duplicate_indented(text, old, new, wanted, rng):
    """As above, and the quote is indented otherwise."""
    found = near_duplicate(text, old, new, wanted, rng)
    return found and (found[0], indent(found[1]), indent(found[2]), found[3])


def ambiguous_reindented(text, old, new, _, __):
    """Twice there, and quoted with another indentation."""
    return text.rstrip("\n") + "\n\n\n" + old, indent(old), indent(new), None


def _all_indented(text):
    """Else the damage cannot be undone by anybody: two depths become one."""
    return all(line.startswith("    ") for line in text.splitlines() if line.strip())


KINDS = {
    "none": lambda *edit: edit[:4],
    "indented more": both(indent),
    "indented less": lambda *edit: both(dedent)(*edit) if _all_indented(edit[1] + edit[2]) else None,
    "tabs for spaces": both(tabs),
    "trailing white space": both(trailing),
    "curly quotes": both(lambda text: text.translate(curly)),
    "CRLF": both(crlf),
    "the file has CRLF": lambda text, old, new, wanted, _: (crlf(text), old, new, crlf(wanted)),
    "a line dropped": without_a_line,
    "a line doubled": with_a_line_twice,
    "ellipsis": with_dots,
    "stale context": stale,
    "near-duplicate": near_duplicate,
    "near-duplicate, indented": near_duplicate_indented,
    "ambiguous": ambiguous,
    "ambiguous, indented": ambiguous_reindented,
}


QUOTES = {"indented more", "indented less", "tabs for spaces", "trailing white space", "curly quotes", "a line dropped",
          "a line doubled", "ellipsis", "stale context", "near-duplicate, indented"}  # fmt: skip
"""Kinds that damage what is quoted."""


def by_redline(text, old, new):
    return replace(text, old, new).text


def by_exact(text, old, new):
    if text.count(old) != 1:
        raise EditRefused("no")
    return text.replace(old, new)


def by_likeness(text, old, new):
    """What edit tools with fuzzy matching do: the likeliest lines, when they are like enough."""
    have, want = text.splitlines(keepends=True), old.splitlines(keepends=True)
    if text.count(old) == 1:
        return text.replace(old, new)
    best, at = 0.0, -1
    wanted = Counter(line.strip() for line in want)
    for start in range(max(1, len(have) - len(want) + 1)):
        part = have[start : start + len(want)]
        if sum((wanted & Counter(line.strip() for line in part)).values()) * 2 < len(want):
            continue
        ratio = difflib.SequenceMatcher(None, "".join(part), old, autojunk=False).ratio()
        if ratio > best:
            best, at = ratio, start
    if best < 0.9:
        raise EditRefused("no")
    return "".join([*have[:at], new, *have[at + len(want) :]])


def outcome(way, text, old, new, wanted):
    try:
        got = way(text, old, new)
    except EditRefused:
        return "refused"
    return "correct" if got == wanted else "wrong"


WAYS = {"redline": by_redline, "exact": by_exact, "fuzzy": by_likeness}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--edits", type=int, default=300)
    args = parser.parse_args()
    rng = random.Random(7)
    every = []
    for folder in args.folders:
        found = list(edits(commits(folder, args.edits)))
        rng.shuffle(found)
        every += found[: args.edits]
        print(f"{Path(folder).parent.name}: {min(len(found), args.edits)} edits", flush=True)
    total = {way: Counter() for way in WAYS}
    print(f"{'damage':<26}" + "".join(f"{way + ': correct / wrong / refused':>36}" for way in WAYS))
    for kind, damage in KINDS.items():
        counts = {way: Counter() for way in WAYS}
        for edit in every:
            damaged = damage(*edit, rng)
            if damaged is None or (kind in QUOTES and damaged[0].count(damaged[1]) == 1):
                continue
            for way, function in WAYS.items():
                counts[way][outcome(function, *damaged)] += 1
        for way, count in counts.items():
            total[way] += count
        print(f"{kind:<26}" + "".join(_cell(counts[way]) for way in WAYS), flush=True)
    print(f"{'all':<26}" + "".join(_cell(total[way]) for way in WAYS))
    for way, count in total.items():
        print(f"{way}: {100 * count['wrong'] / sum(count.values()):.2f}% wrong of {sum(count.values())}")


def _cell(count):
    return f"{count['correct']} / {count['wrong']} / {count['refused']}".rjust(36)


if __name__ == "__main__":
    main()
