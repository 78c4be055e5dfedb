"""What a run did to its overlay, as values for the journal, so that a run that was cut off finds its overlay again.

`Watcher.changes` gives what is new since it was asked last; texts go by digest into the store of raw texts.
`restore` is its inverse, applied in order.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from redline_agent.errors import JournalError
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Edit, Overlay, Touched
from redline_agent.workspace.textfile import TextFile, digest

Keep = Callable[[str, str], None]
State = tuple[int, str, str, str]
"""How many edits a file has, where it was moved from and to, and the version of its base."""


class Watcher:
    """Follows one overlay."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._known: dict[str, State] = {}
        self._seen: dict[str, str] = {}
        self.settle()

    def settle(self) -> None:
        """Take what there is as known."""
        self._known = {path: _state(touched) for path, touched in self._overlay.touched.items()}
        self._seen = self._overlay.versions_seen()

    def changes(self, keep: Keep) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
        """Return files that changed and versions that were seen since the last time; `keep` is given each text."""
        files = tuple(
            _dump(path, touched, known[0] if known and known[3] == _state(touched)[3] else None, keep)
            for path, touched in self._overlay.touched.items()
            if (known := self._known.get(path)) != _state(touched)
        )
        files += tuple({"path": path, "gone": True} for path in self._known.keys() - self._overlay.touched.keys())
        now = self._overlay.versions_seen()
        seen = {path: now.get(path, "") for path in now.keys() | self._seen.keys()
                if now.get(path) != self._seen.get(path)}  # fmt: skip
        self.settle()
        return files, seen


def _state(touched: Touched) -> State:
    base = digest(touched.base.text) if touched.base else ""
    return len(touched.edits), touched.moved_from, touched.moved_to, base


def _dump(path: str, touched: Touched, since: int | None, keep: Keep) -> dict[str, Any]:
    """A file's edits since some number of them; with none all, and its base, which may be another one by now."""

    def text(value: str | None) -> str | None:
        if value is None:
            return None
        keep(digest(value), value)
        return digest(value)

    entry: dict[str, Any] = {
        "path": path,
        "movedFrom": touched.moved_from,
        "movedTo": touched.moved_to,
        "kind": _kind(touched.kind),
        "edits": [
            [edit.origin.turn, edit.origin.call_id, edit.origin.tool, edit.origin.reason, text(edit.text)]
            for edit in touched.edits[since or 0 :]
        ],
    }
    if since is None:
        base = touched.base
        entry["base"] = None if base is None else [text(base.text), *_kind(base)]
    return entry


def _kind(file: TextFile) -> list[str]:
    executable = ["x"] if file.executable else []
    return [file.encoding, base64.b64encode(file.bom).decode(), *executable]


def restore(
    overlay: Overlay,
    deltas: Iterable[tuple[tuple[dict[str, Any], ...], dict[str, str]]],
    text_of: Callable[[str], str | None],
) -> None:
    """Bring a new overlay to where the deltas left theirs; raises JournalError when a text is not there any more."""

    def text(name: str | None) -> str | None:
        if name is None:
            return None
        found = text_of(name)
        if found is None:
            raise JournalError(f"The text {name} of an edit is not in the journal's store any more.")
        return found

    for files, seen in deltas:
        for entry in files:
            if entry.get("gone"):  # the user gave the file another name
                overlay.touched.pop(entry["path"], None)
                continue
            encoding, bom, *executable = entry["kind"]
            kind = TextFile("", encoding, base64.b64decode(bom), bool(executable))
            touched = overlay.touched.get(entry["path"])
            if touched is None or "base" in entry:
                base = entry.get("base")
                pinned = None
                if base is not None:
                    pinned = TextFile(text(base[0]) or "", base[1], base64.b64decode(base[2]), bool(base[3:]))
                touched = overlay.touched[entry["path"]] = Touched(pinned, kind)
            touched.kind = kind
            touched.moved_from, touched.moved_to = entry["movedFrom"], entry["movedTo"]
            touched.edits += [Edit(Origin(turn, call, tool, reason), text(name))
                              for turn, call, tool, reason, name in entry["edits"]]  # fmt: skip
        overlay.have_seen(seen)
