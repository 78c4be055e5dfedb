"""The index's process: `python -m redline_agent.indexer FOLDER`, a line of JSON in, a line of JSON out, until the end.

Reads every file of a folder that is no secret and not ignored, once, and again when its size or time has changed; texts
that an editor or a run has above the disk come with each question. Nothing of the folder is executed or imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from redline_agent.errors import RedlineError
from redline_agent.retrieval.corpus import FILE_CHARS_MAX, Corpus, read
from redline_agent.retrieval.rank import rank, symbols_of
from redline_agent.safety.paths import Resolver
from redline_agent.safety.rules import secret_files
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.textfile import digest

WALK_AGAIN_S = 2.0
"""A folder that was walked less long ago is taken as it was."""
_BYTES_MAX = 2 * 2**20


class Indexer:
    """The corpus of one folder, kept to what the disk and the texts above it are."""

    def __init__(self, root: Path) -> None:
        self._overlay = Overlay(Resolver(root))
        self._root = root
        self._corpus = Corpus()
        self._stamps: dict[str, tuple[float, int] | str] = {}
        self._secret = secret_files()
        self._walked_s = -WALK_AGAIN_S

    def sync(self, above: dict[str, str | None]) -> dict[str, Any]:
        """Bring the corpus to what is there now; returns how many files it has, and how many were read."""
        began = time.monotonic()
        seen: set[str] = set()
        count = 0
        fresh = began - self._walked_s >= WALK_AGAIN_S
        paths = self._overlay.walk() if fresh else list(self._stamps)
        for path in paths:
            if path in above or self._secret.speaks_of(path):
                continue
            stamp = self._stamp(path)
            if stamp is None:
                continue
            seen.add(path)
            if self._stamps.get(path) != stamp:
                count += self._put(path, self._text(path), stamp)
        for path, text in above.items():
            if text is None or self._secret.speaks_of(path):
                continue
            seen.add(path)
            version = digest(text)
            if self._stamps.get(path) != version:
                count += self._put(path, text, version)
        for path in self._stamps.keys() - seen:
            self._corpus.drop(path)
            del self._stamps[path]
        if fresh:
            self._walked_s = time.monotonic()
        return {"files": len(self._corpus.files), "read": count, "seconds": time.monotonic() - began}

    def _put(self, path: str, text: str, stamp: tuple[float, int] | str) -> int:
        self._stamps[path] = stamp
        self._corpus.put(read(path, text))
        return 1

    def _stamp(self, path: str) -> tuple[float, int] | None:
        try:
            found = (self._root / path).stat(follow_symlinks=False)
        except OSError:
            return None
        return found.st_mtime, found.st_size

    def _text(self, path: str) -> str:
        try:
            request = self._overlay.resolver.access("read", path)
            if request.place != "workspace" or request.links > 1:
                return ""
            data = self._overlay.resolver.read_bytes(path) or b""
        except RedlineError:
            return ""
        if b"\0" in data[:8000] or len(data) > _BYTES_MAX:
            return ""
        return data[: FILE_CHARS_MAX * 2].decode("utf-8", "replace")

    def find(self, query: str, file: str, targets: list[str], limit: int, opened: list[str]) -> dict[str, Any]:
        """Return the likeliest files for a task."""
        here = [*([file] if file else []), *targets]
        ranked = rank(self._corpus, query, limit=limit, here=here, opened=opened)
        return {
            "files": [
                {
                    "path": each.file.path, "score": round(each.score, 4), "tokens": each.file.tokens, "why": each.why,
                    "symbols": symbols_of(each),
                }
                for each in ranked
            ]
        }  # fmt: skip

    def definitions(self, name: str, under: str) -> dict[str, Any]:
        """Return where a name is defined."""
        places = [
            {"path": path, "line": s.line, "end": s.end, "kind": s.kind, "name": s.full, "text": s.text}
            for path, s in self._corpus.definitions(name, under)
        ]
        return {"places": places[:500]}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question, after bringing the corpus up to date."""
        state = self.sync(question.get("above", {}))
        match question["op"]:
            case "sync":
                return state
            case "find":
                found = self.find(
                    question["query"], question["file"], question["targets"], question["limit"], question["open"]
                )
                return {**found, "state": state}
            case "definitions":
                return self.definitions(question["name"], question["under"])
            case other:
                return {"error": f"there is no question {other!r}"}


def main() -> None:
    """Answer until the input ends."""
    reply_to, sys.stdout = sys.stdout, sys.stderr
    indexer = Indexer(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = indexer.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001  whatever a file does to a parser becomes an answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        reply_to.write(json.dumps(answer) + "\n")
        reply_to.flush()


if __name__ == "__main__":
    main()
