"""Files that the user renames or moves: what is pending there goes along.

Some editors say it (`workspace/didRenameFiles`); of others, and of a terminal, it is seen: a file that is gone, and the
same text under another name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from redline_agent.errors import RedlineError
from redline_agent.workspace.textfile import decode

from redline_server.review import Entry

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


def moved(server: RedlineServer, old: Path, new: Path) -> None:
    """Take in that a file or folder has another name now."""
    for entry in list(server.reviews.entries.values()):
        if old.is_relative_to(entry.root) and new.is_relative_to(entry.root):
            names = old.relative_to(entry.root).as_posix(), new.relative_to(entry.root).as_posix()
            if entry.proposal.moved(*names):
                _keep(server, entry, old)
    if server.has_runs:
        server.runs.moved(old, new)
    server.refresh_reviews()


def _keep(server: RedlineServer, entry: Entry, old: Path) -> None:
    """Forget what was known of the old place, and have the journal know the new one."""
    entry.disk.clear()
    entry.seen.clear()
    entry.proposal.revision += 1
    server.runs.workspace(entry.root).keep(entry.proposal)
    server.clear_published(old)
    server.entry_changed(entry)


def found_again(server: RedlineServer, path: Path, text: str) -> None:
    """Look whether a file that has appeared is one of a proposal's that is gone, by its text.

    One that was at its place already when the proposal was made is another one.
    """
    try:
        came_s = path.stat().st_ctime
    except OSError:
        return
    gone = {
        entry.path(review.path)
        for entry in server.reviews.entries.values()
        if path.is_relative_to(entry.root) and came_s >= entry.proposal.made_s
        for review in entry.proposal.files.values()
        if review.file.text == text and text and entry.path(review.path) != path
        and server.documents.at(entry.path(review.path)) is None and not entry.path(review.path).exists()
    }  # fmt: skip
    if len(gone) == 1:
        moved(server, gone.pop(), path)


def appeared(server: RedlineServer, path: Path) -> None:
    """The same of a file on the disk that something has made."""
    for entry in list(server.reviews.entries.values()):
        if path.is_relative_to(entry.root) and any(hunk.state == "stale" for hunk in entry.proposal.hunks):
            try:
                name = path.relative_to(entry.root).as_posix()
                data = entry.resolver.read_bytes(name)
                text = decode(data, name).text if data else ""
            except RedlineError:
                continue
            found_again(server, path, text)
            return
