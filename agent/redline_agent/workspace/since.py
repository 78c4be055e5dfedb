"""Which files of a folder somebody has changed since a moment: what was made of them before is stale from then on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from redline_agent.errors import RedlineError
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.textfile import decode

SHOWN_MAX = 5
FOUND_MAX = 500
FOLDERS_MAX = 20_000


def changed_since(root: Path, since_s: float, skip: Callable[[str], bool], most: int = SHOWN_MAX) -> list[str]:
    """Return files, at most so many, that were written, made or moved to their place after a time (seconds).

    Folders that `skip` names are not looked into. A file that was deleted leaves no trace here.
    """
    found: list[str] = []
    queue = [""]
    seen = 0
    while queue and len(found) < most and seen < FOLDERS_MAX:
        here = queue.pop()
        seen += 1
        try:
            with os.scandir(root / here) as entries:
                for entry in entries:
                    path = f"{here}/{entry.name}" if here else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        queue += [] if skip(path) else [path]
                    elif _changed_s(entry) > since_s:
                        found.append(path)
        except OSError:
            continue
    return found[:most]


def _changed_s(entry: os.DirEntry[str]) -> float:
    try:
        return changed_s(entry.stat(follow_symlinks=False))
    except OSError:
        return 0.0


def changed_s(status: os.stat_result) -> float:
    """Return when a file came to be as it is, in seconds: one that is moved somewhere keeps its time of writing."""
    return max(status.st_mtime, status.st_ctime)


@dataclass(slots=True)
class Watch:
    """What the user changes below an overlay from now on, on the disk and in the editor; a save is no change of a text
    that was open.
    """

    overlay: Overlay
    began_s: float
    opened: dict[str, str] = field(default_factory=dict[str, str])
    there: frozenset[str] = field(default_factory=frozenset[str])
    """Files on the disk that the run has read or edited: of these it is seen when they go."""

    @classmethod
    def begin(cls, overlay: Overlay, began_s: float) -> Watch:
        """Watch from a time (seconds) on, which is now."""
        known = overlay.versions_seen().keys() | overlay.touched.keys()
        return cls(overlay, began_s, _opened(overlay), frozenset(path for path in known if _on_disk(overlay, path)))

    def changed(self) -> list[str]:
        """Return files that were changed since, at most SHOWN_MAX."""
        now = _opened(self.overlay)
        typed = {path for path, text in now.items() if text != self.opened.get(path, text)}
        typed |= {path for path in now.keys() - self.opened.keys() if now[path] != self._saved(path)}
        root, ignores = self.overlay.resolver.root, self.overlay.ignores_folder
        saved = changed_since(root, self.began_s, ignores, FOUND_MAX)  # ignored files may be among them
        found = typed | {path for path in saved if path not in self.opened}
        found |= {path for path in self.there if not _on_disk(self.overlay, path)}
        return sorted(path for path in found if not self.overlay.ignores(path))[:SHOWN_MAX]

    def _saved(self, path: str) -> str | None:
        try:
            data = self.overlay.resolver.read_bytes(path)
            return decode(data, path).text if data is not None else None
        except RedlineError:
            return None


def _on_disk(overlay: Overlay, path: str) -> bool:
    return os.path.lexists(overlay.resolver.root / path)


def _opened(overlay: Overlay) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in overlay.buffers.open_paths():
        try:
            found = overlay.buffers.open_text(path)
        except RedlineError:
            continue
        if found is not None:
            texts[path] = found[0]
    return texts
