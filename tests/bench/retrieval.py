"""Retrieval on public histories: query = commit subject, tree = the parent commit, truth = the files changed.

    python tests/bench/retrieval.py GIT_DIR [GIT_DIR ...] [--commits 300] [--set NAME=VALUE ...]

Commits that only change files which are there (no merges, 1 to 10 files, a subject of 3 words or more), newest first.
"recall" is the share of the changed files that is found, "hit" whether any is. Plain BM25 (words and paths, k1 = 1.2,
b = 0.75) is measured in the same run.
"""

import argparse
import math
import re
import subprocess
import threading
import time
from collections import Counter

from redline_agent.retrieval import rank as ranking
from redline_agent.retrieval.corpus import Corpus, read

AT = (1, 3, 5, 10)
TOKENS = 2_000
WORD = re.compile(r"[A-Za-z0-9_]+")


def git(repo, *args):
    return subprocess.run(["git", "-C", repo, *args], capture_output=True, check=True).stdout.decode("utf-8", "replace")


def commits(repo, most):
    out = git(repo, "log", "--no-merges", "--format=%x01%H %P%x02%s", "--name-only", "--diff-filter=M", "-n", "6000")
    found = []
    for entry in out.split("\x01")[1:]:
        head, _, rest = entry.partition("\x02")
        ids = head.split()
        subject, _, names = rest.partition("\n")
        files = [name for name in names.strip().split("\n") if name]
        if len(ids) == 2 and 1 <= len(files) <= 10 and len(subject.split()) >= 3:
            found.append((ids[1], subject, files))
    return found[:most]


def tree(repo, commit):
    found = {}
    for line in git(repo, "ls-tree", "-r", "-l", commit).splitlines():
        meta, _, path = line.partition("\t")
        mode, kind, sha, size = meta.split()
        if kind == "blob" and mode != "120000" and int(size) < 400_000:
            found[path] = sha
    return found


def blobs(repo, names):
    process = subprocess.Popen(
        ["git", "-C", repo, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def feed():
        process.stdin.write(("\n".join(names) + "\n").encode())
        process.stdin.close()

    threading.Thread(target=feed).start()
    for name in names:
        size = int(process.stdout.readline().split()[2])
        data = process.stdout.read(size)
        process.stdout.read(1)
        yield name, "" if b"\0" in data[:8000] else data.decode("utf-8", "replace")


class Plain:
    """BM25 over words and the path's words, and nothing else."""

    def __init__(self):
        self.docs, self.having, self.total = {}, Counter(), 0

    def put(self, path, counts):
        self.drop(path)
        self.docs[path] = (counts, counts.total())
        self.having.update(counts.keys())
        self.total += counts.total()

    def drop(self, path):
        counts, size = self.docs.pop(path, (None, 0))
        if counts is not None:
            self.having.subtract(counts.keys())
            self.total -= size

    def rank(self, query, most):
        count, mean, scores = len(self.docs), self.total / max(len(self.docs), 1), {}
        wanted = {word.lower() for word in WORD.findall(query)}
        rarity = {w: math.log(1 + (count - self.having[w] + 0.5) / (self.having[w] + 0.5)) for w in wanted}
        for path, (counts, size) in self.docs.items():
            score = sum(
                rarity[w] * counts[w] * 2.2 / (counts[w] + 1.2 * (0.25 + 0.75 * size / mean))
                for w in wanted
                if w in counts
            )
            if score:
                scores[path] = score
        return [path for path, _ in sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]


def plain_counts(path, text):
    words = [word.lower() for word in WORD.findall(text)]
    return Counter(words + [word.lower() for word in WORD.findall(path.replace("_", " "))])


def measure(repo, most):
    cases = commits(repo, most)
    trees = {parent: tree(repo, parent) for parent, _, _ in cases}
    first = {sha: path for each in trees.values() for path, sha in each.items()}
    texts = dict(blobs(repo, list(first)))
    parsed, plain_parsed = {}, {}
    corpus, plain, now = Corpus(), Plain(), {}
    scores = {"bm25": [], "redline": []}
    ours_s = 0.0
    for parent, subject, files in cases:
        wanted = trees[parent]
        for path in now.keys() - wanted.keys():
            corpus.drop(path)
            plain.drop(path)
        for path, sha in wanted.items():
            if now.get(path) != sha:
                if (path, sha) not in parsed:
                    parsed[path, sha] = read(path, texts[sha])
                    plain_parsed[path, sha] = plain_counts(path, texts[sha])
                corpus.put(parsed[path, sha])
                plain.put(path, plain_parsed[path, sha])
        now = dict(wanted)
        truth = {file for file in files if file in wanted}
        if not truth:
            continue
        began = time.perf_counter()
        ours = [each.file.path for each in ranking.rank(corpus, subject, limit=20)]
        ours_s += time.perf_counter() - began
        sizes = {path: len(texts[sha]) // 4 for path, sha in wanted.items()}
        for name, found in (("bm25", plain.rank(subject, 20)), ("redline", ours)):
            row = [len(truth & set(found[:n])) / len(truth) for n in AT]
            row += [float(bool(truth & set(found[:n]))) for n in AT]
            scores[name].append([*row, len(truth & set(within(found, sizes))) / len(truth)])
    return scores, ours_s / max(1, len(scores["redline"]))


def within(found, sizes):
    """The files that fit 2,000 tokens, whole; a larger one stands for itself by an excerpt of 400."""
    left, taken = TOKENS, []
    for path in found:
        cost = min(sizes[path], 400)
        if cost <= left:
            left -= cost
            taken.append(path)
    return taken


def show(name, rows):
    mean = [100 * sum(row[at] for row in rows) / len(rows) for at in range(9)]
    recall, hit = (" / ".join(f"{value:5.1f}" for value in part) for part in (mean[:4], mean[4:8]))
    print(f"  {name:<8} recall@1/3/5/10 {recall}   hit {hit}   recall in {TOKENS:,} tokens {mean[8]:5.1f}", flush=True)
    return mean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repos", nargs="+", metavar="GIT_DIR")
    parser.add_argument("--commits", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="try another weight")
    args = parser.parse_args()
    for each in args.set:
        name, _, value = each.partition("=")
        setattr(ranking, name, type(getattr(ranking, name))(eval(value)))  # a developer's own command line
    gains = []
    for repo in args.repos:
        scores, seconds = measure(repo, args.commits)
        print(f"{repo}: {len(scores['bm25'])} commits, {seconds * 1000:.1f} ms a query")
        base, ours = (show(name, scores[name]) for name in ("bm25", "redline"))
        gains.append((ours[2] - base[2], ours[6] - base[6]))
    means = [sum(gain[at] for gain in gains) / len(gains) for at in (0, 1)]
    print(f"mean gain over BM25 at 5: recall {means[0]:+.1f}, hit {means[1]:+.1f}")


if __name__ == "__main__":
    main()
