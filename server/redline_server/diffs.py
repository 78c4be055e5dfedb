"""What a proposal, or a revert, would change, written as read-only files and shown where the editor can."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redline_agent.config import state_dir
from redline_agent.errors import ReviewError
from redline_agent.text import split_lines
from redline_agent.workspace.proposal import FileOperation

from redline_server import convert
from redline_server.review import Entry
from redline_server.shown import write_read_only

if TYPE_CHECKING:
    from redline_server.app import RedlineServer

_NOTHING = "/dev/null"
_PROPOSED = frozenset({"pending", "conflicted", "applying", "stale"})
_BACK = {"create": "delete", "delete": "create", "rename": "rename back", "mode": "the former mode of"}


def show_diff(server: RedlineServer, entry: Entry, wanted: Path | None) -> dict[str, Any]:
    """Write a proposal's diff (of one file, or all), and beside it each file as it is and as it would be.

    Returns `{uri, files: [{uri, proposedUri, originalUri?}]}`: a new file has an empty original of its own. Raises
    ReviewError where nothing of that file is proposed.
    """
    folder = state_dir() / "diffs" / entry.proposal.run
    shown: list[str] = []
    files: list[dict[str, str]] = []
    for review in entry.proposal.files.values():
        if wanted in (None, entry.path(review.path)):
            proposed = review.result([hunk.id for hunk in review.hunks if hunk.state in _PROPOSED])
            shown += diff_lines(f"a/{review.path}", review.file.text, f"b/{review.path}", proposed)
            files.append(_pair(entry, review.path, proposed, folder))
    for op in entry.proposal.operations:
        if op.state in _PROPOSED and wanted in (None, entry.path(op.path)):
            shown += _of_file(op)
            if op.kind in ("create", "delete"):
                files.append(_pair(entry, op.path, _text(op) if op.kind == "create" else "", folder, op))
    if wanted and not shown:
        raise ReviewError(f"{entry.proposal.run} proposes nothing in {wanted.name}.")
    name = f"{_flat(wanted.name)}.diff" if wanted else "proposal.diff"
    return {"uri": _show(server, write_read_only(folder / name, "".join(shown))), "files": files}


def show_revert(server: RedlineServer, entry: Entry, ids: set[str]) -> dict[str, Any]:
    """Write what a revert of some items would do as a diff; nothing is changed."""
    shown = [f"{_BACK[op.kind]} {op.new_path or op.path}\n" for op in entry.proposal.operations if op.id in ids]
    for review in entry.proposal.files.values():
        without = review.without(hunk.id for hunk in review.hunks if hunk.id in ids)
        shown += diff_lines(f"a/{review.path}", review.file.text, f"b/{review.path}", without)
    diff = write_read_only(state_dir() / "diffs" / entry.proposal.run / "revert.diff", "".join(shown))
    return {"uri": _show(server, diff), "reverting": []}


def _show(server: RedlineServer, diff: Path) -> str:
    uri = convert.uri_of(diff)
    if not server.client.own:  # ours have a view of their own
        server.in_background(server.client.show_document(uri))
    return uri


def _pair(entry: Entry, path: str, proposed: str, folder: Path, op: FileOperation | None = None) -> dict[str, str]:
    copy = write_read_only(folder / _flat(path), proposed)
    pair = {"uri": convert.uri_of(entry.path(path)), "proposedUri": convert.uri_of(copy)}
    if op is not None and op.kind == "create":
        pair["originalUri"] = convert.uri_of(write_read_only(folder / "nothing", ""))
    return pair


def _of_file(op: FileOperation) -> Iterator[str]:
    match op.kind:
        case "create":
            yield from diff_lines(_NOTHING, "", f"b/{op.path}", _text(op)) or [f"an empty file: {op.path}\n"]
        case "delete":
            yield from diff_lines(f"a/{op.path}", _text(op), _NOTHING, "") or [f"deleted: {op.path}\n"]
        case "rename":
            yield f"rename from {op.path}\nrename to {op.new_path}\n"
        case "mode":
            yield f"{op.told}\n"


def _text(op: FileOperation) -> str:
    return op.file.text if op.file else ""


def diff_lines(old_name: str, old: str, new_name: str, new: str) -> list[str]:
    """Return a unified diff of two texts, as lines."""
    lines = difflib.unified_diff(split_lines(old), split_lines(new), old_name, new_name)
    return [line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines]


def _flat(path: str) -> str:
    name = path.replace("/", "__")
    if len(name) < 120 and "__" not in path:
        return name
    return hashlib.sha256(path.encode()).hexdigest()[:16] + "__" + name[-80:]
