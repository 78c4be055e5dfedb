"""From a run's overlay to its proposal: a diff for each touched file, each hunk with its origin and reason. Pure
but for one look at the text that the editor has now, so that the hunks are against that.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from redline_agent.errors import WorkspaceError
from redline_agent.safety.gate import badge
from redline_agent.safety.rules import Rules
from redline_agent.text import split_lines
from redline_agent.workspace.dependencies import link
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import Blame, Change, Origin, changes
from redline_agent.workspace.overlay import Overlay, Touched
from redline_agent.workspace.proposal import FileOperation, ProofItem, Proposal

PROGRAM = "the file can be run as a program then"
GROUPED = frozenset({"rename_symbol"})
"""Tools whose edits stand or fall together: the uses depend on the definition's hunk."""


def propose(
    overlay: Overlay,
    *,
    run: str,
    session: str,
    instruction: str,
    rules: Rules,
    proof: list[ProofItem],
    notes: list[str],
) -> Proposal:
    """Build the proposal; hunks are in the order of paths and lines, with ids "h1", "h2", ..."""
    for path in list(overlay.touched):  # what was typed since the last look is taken in
        with suppress(WorkspaceError):
            overlay.find(path)
    ids = itertools.count(1)
    files: dict[str, FileReview] = {}
    operations: list[FileOperation] = []
    renames = _renames(overlay)
    for path, touched in sorted(overlay.touched.items()):
        moved = overlay.touched.get(renames.get(path, ""))
        operations.extend(_operations(path, touched, moved, renames, rules, ids))
        review = _review(overlay, path, touched, renames, rules, ids)
        if review is not None and review.hunks:
            review.follow(_text_now(overlay, path, review))
            files[path] = review
    for op in operations:
        if op.kind == "delete":
            with suppress(OSError):
                op.mode = stat.S_IMODE(os.lstat(overlay.resolver.root / op.path).st_mode)
    _link(files)
    proposal = Proposal(run, session, instruction, files, operations, proof, notes)
    link(proposal)
    return proposal


def _renames(overlay: Overlay) -> dict[str, str]:
    """Files that are whole under another name: from the old path to the new one, which nothing had before."""
    return {
        touched.moved_from: path
        for path, touched in overlay.touched.items()
        if touched.moved_from
        and touched.base is None
        and touched.text is not None
        and overlay.touched[touched.moved_from].base is not None
        and overlay.touched[touched.moved_from].text is None
        and overlay.touched[touched.moved_from].moved_to == path
    }


def _operations(
    path: str, touched: Touched, moved: Touched | None, renames: dict[str, str], rules: Rules, ids: Iterator[int]
) -> Iterator[FileOperation]:
    if not touched.edits:
        return
    origin = touched.edits[-1].origin
    base, text = touched.base, touched.text
    if path in renames:
        to = renames[path]
        why = badge(path, "", rules) or badge(to, "", rules)
        made = FileOperation(f"f{next(ids)}", "rename", path, origin.reason, origin, new_path=to, file=base, badge=why)
        yield made
        kind = moved.kind if moved is not None else None
        if kind is not None and base is not None and kind.executable != base.executable:
            file, why = replace(base, executable=kind.executable), why or (PROGRAM if kind.executable else "")
            ident = f"f{next(ids)}"
            yield FileOperation(ident, "mode", to, origin.reason, origin, file=file, badge=why, depends_on=(made.id,))
    elif base is None and text is not None and path not in renames.values():
        why = badge(path, text, rules)
        yield FileOperation(
            f"f{next(ids)}", "create", path, origin.reason, origin, file=touched.kind.with_text(text), badge=why
        )
    elif base is not None and text is None:
        why = badge(path, "", rules)
        yield FileOperation(f"f{next(ids)}", "delete", path, origin.reason, origin, file=base, badge=why)
    elif base is not None and text is not None and touched.kind.executable != base.executable:
        why = badge(path, "", rules) or (PROGRAM if touched.kind.executable else "")
        file = replace(base, executable=touched.kind.executable)
        yield FileOperation(f"f{next(ids)}", "mode", path, origin.reason, origin, file=file, badge=why)


def _review(
    overlay: Overlay, path: str, touched: Touched, renames: dict[str, str], rules: Rules, ids: Iterator[int]
) -> FileReview | None:
    """Hunks of an edited file; a renamed one's are against its old path."""
    if touched.base is None:
        return None
    text, edits = touched.text, touched.edits
    if text is None:
        target = overlay.touched.get(renames.get(path, ""))
        if target is None or target.text is None:
            return None
        text, edits = target.text, [*edits, *target.edits]
    blame = Blame(touched.base.text)
    origins: list[Origin] = []
    for edit in edits:
        if edit.text is not None:
            origins.append(edit.origin)
            blame.edit(edit.text, len(origins) - 1)
    old, new = split_lines(touched.base.text), split_lines(text)
    named = badge(renames.get(path, path), "", rules, links=overlay.resolver.names(path))
    review = FileReview(path, touched.base, [])
    for change in changes(old, new):
        made_by = blame.of(change.new_start, change.new_start + len(change.new))
        behind = [origins[index] for index in made_by] or origins[-1:]
        hunk = _hunk(f"h{next(ids)}", path, old, change, behind, rules)
        hunk.badge = hunk.badge or named
        review.hunks.append(hunk)
    return review


def _hunk(ident: str, path: str, old: list[str], change: Change, behind: list[Origin], rules: Rules) -> Hunk:
    return Hunk(
        id=ident,
        path=path,
        start=change.start,
        end=change.end,
        old=tuple(old[change.start : change.end]),
        new=change.new,
        reason="; ".join(dict.fromkeys(origin.reason for origin in behind)),
        origin=behind[-1],
        badge=badge(path, "".join(change.new), rules),
    )


def _text_now(overlay: Overlay, path: str, review: FileReview) -> str:
    try:
        opened = overlay.buffers.open_text(path)
    except WorkspaceError:
        opened = None
    return review.file.text if opened is None else opened[0]


def _link(files: dict[str, FileReview]) -> None:
    """The hunks of one grouped call depend on that call's first hunk, the definition's."""
    first: dict[str, str] = {}
    hunks = [hunk for review in files.values() for hunk in review.hunks if hunk.origin.tool in GROUPED]
    for hunk in sorted(hunks, key=lambda h: not _defines(h)):
        head = first.setdefault(hunk.origin.call_id, hunk.id)
        if head != hunk.id:
            hunk.depends_on = (head,)


def _defines(hunk: Hunk) -> bool:
    return any(line.lstrip().startswith(("def ", "class ", "async def ")) for line in hunk.old)
