"""What a command wrote, as edits of the overlay: each file by its own permit, with the command as its origin.

What the user did to a file meanwhile is kept: changes of other lines are put together, of the same lines the command's
are stale.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from redline_agent.errors import RedlineError
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Access, text_digest
from redline_agent.text import has_hidden
from redline_agent.workspace.hunks import Origin, merged
from redline_agent.workspace.materialise import Wrote
from redline_agent.workspace.overlay import Overlay, Seen
from redline_agent.workspace.since import changed_s
from redline_agent.workspace.textfile import decode

HARVEST_FILES_MAX = 1_000
_SAME = "nothing to take"
_SAVED = "it was saved outside while the command ran, so the command's version is stale"
_TYPED = "it was changed in the editor while the command ran, so the command's version is stale"
_ENCODED = "it changed the file's encoding, which is not taken over"


@dataclass(slots=True)
class Harvest:
    """What came of a command: paths that became edits, and what was left out, each with the reason; of those, which
    were `stale`. `below` are files that the user changed while it ran: all that came of it is of before that.
    """

    taken: list[str] = field(default_factory=list[str])
    left: dict[str, str] = field(default_factory=dict[str, str])
    stale: list[str] = field(default_factory=list[str])
    below: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Harvester:
    """Takes over what one command wrote. `laid` is what of the overlay was laid out for it, as bytes by path."""

    overlay: Overlay
    keeper: Keeper
    upper: Path
    laid: dict[str, bytes | None]

    def take(self, changes: Iterable[Wrote], origin: Origin, began_s: float) -> Harvest:
        """Take changes over; raises nothing for a single one."""
        harvest = Harvest()
        for wrote in changes:
            if has_hidden(wrote.path) or not wrote.path.isprintable():
                harvest.left[wrote.path] = "its name has invisible or control characters"
                continue
            for each in self._single(wrote):
                if len(harvest.taken) >= HARVEST_FILES_MAX:
                    harvest.left[each.path] = f"more than {HARVEST_FILES_MAX} files were changed"
                    continue
                try:
                    why_not = self._take(each, origin, began_s)
                except RedlineError as error:
                    why_not = error.message
                if why_not == "":
                    harvest.taken.append(each.path)
                elif why_not != _SAME:
                    harvest.left[each.path] = why_not
                if why_not in (_SAVED, _TYPED):
                    harvest.stale.append(each.path)
        return harvest

    def _single(self, wrote: Wrote) -> list[Wrote]:
        """A folder that went away is its files that did."""
        try:
            return self._parts(wrote)
        except RedlineError:  # a link that leads elsewhere was there
            return [wrote]

    def _parts(self, wrote: Wrote) -> list[Wrote]:
        overlay = self.overlay
        if wrote.kind == "deleted" and not overlay.exists(wrote.path):
            return [Wrote(path, "deleted") for path in overlay.walk(wrote.path) if path.startswith(wrote.path + "/")]
        if wrote.kind == "replaced-folder":
            upper = self.upper
            return [
                Wrote(path, "deleted")
                for path in overlay.walk(wrote.path)
                if path.startswith(wrote.path + "/") and not os.path.lexists(upper / path)
            ]
        if overlay.resolver.is_dir(wrote.path):  # a file or link in the place of a folder
            gone = [path for path in overlay.walk(wrote.path) if path.startswith(wrote.path + "/")]
            return [wrote, *(Wrote(path, "deleted") for path in gone)]
        return [wrote]

    def _take(self, wrote: Wrote, origin: Origin, began_s: float) -> str:
        """Make one change an edit; returns why not, "" when it was made."""
        overlay, path = self.overlay, wrote.path
        if overlay.ignores(path):
            return _SAME  # a build's output, a cache: it stays in the scratch folder
        if _changed_below(overlay.resolver.root / path, began_s):
            return _SAVED
        seen = overlay.find(path) if overlay.exists(path) else None
        moved = seen is not None and self._moved_on(path, seen)
        if wrote.kind == "deleted":
            if seen is None:
                return _SAME
            if moved:
                return _TYPED
            overlay.delete(path, origin, self.keeper.permit(Access("delete", path)))
            self.laid[path] = None
            return ""
        if wrote.why_not:
            return wrote.why_not
        if seen is not None and seen.file.encode() == wrote.data:
            return "" if self._take_mode(wrote, origin) else _SAME
        file = decode(wrote.data, path)
        if seen is not None and wrote.data != seen.file.with_text(file.text).encode():
            return _ENCODED
        text = self._together(path, file.text, seen) if seen is not None and moved else file.text
        if text is None:
            return _TYPED
        permit = self.keeper.permit(Access("write", path, content=text_digest(text)))
        overlay.write(path, text, origin, permit, executable=wrote.executable, kind=file, region=moved)
        self.laid[path] = wrote.data
        self._take_mode(wrote, origin)
        return ""

    def _moved_on(self, path: str, seen: Seen) -> bool:
        """Whether a file is no longer what the command had before it."""
        if path in self.laid:
            return seen.file.encode() != self.laid[path]
        return seen.source == "buffer" and seen.file.encode() != self.overlay.resolver.read_bytes(path)

    def _together(self, path: str, text: str, seen: Seen) -> str | None:
        """The command's text with what the user typed meanwhile; None where that is in the same lines."""
        before = self.laid.get(path)
        return merged(decode(before, path).text, text, seen.file.text) if before is not None else None

    def _take_mode(self, wrote: Wrote, origin: Origin) -> bool:
        """Take over whether the file is a program; says whether that is new."""
        seen = self.overlay.find(wrote.path)
        if seen is None or seen.file.executable == wrote.executable:
            return False
        permit = self.keeper.permit(Access("write", wrote.path, content=text_digest(seen.file.text)))
        self.overlay.set_executable(wrote.path, wrote.executable, origin, permit)
        return True


def _changed_below(place: Path, began_s: float) -> bool:
    try:
        return changed_s(os.lstat(place)) > began_s
    except OSError:
        return False
