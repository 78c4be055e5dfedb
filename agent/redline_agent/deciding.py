"""Decisions without an editor: accepted changes go to the disk, all or nothing, and into the journal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from redline_agent import live
from redline_agent.errors import RedlineError, ReviewError
from redline_agent.session import Workspace
from redline_agent.workspace.applying import Write, accepted, set_executable, write_files
from redline_agent.workspace.filereview import OPEN, FileReview
from redline_agent.workspace.proposal import FileOperation, Proposal
from redline_agent.workspace.textfile import decode


def bulk(proposal: Proposal) -> list[str]:
    """Ids that a bulk accept takes: all that is pending and carries no badge."""
    return [item.id for item in proposal.items if item.state == "pending" and not item.badge]


def accept(workspace: Workspace, proposal: Proposal, ids: Iterable[str]) -> str:
    """Write accepted hunks and operations to the disk, all or nothing; raises WorkspaceError, StaleFile.

    Returns where they are when an editor that has one of the files open took them, "" for the disk.
    """
    wanted = set(ids)
    ids = _by_an_editor(workspace, proposal, wanted)
    if wanted and not ids:
        return "an editor has one of the files open and took the change: it is there, to be saved"
    with workspace.lease():
        if workspace.decided_elsewhere(proposal):
            for review in proposal.files.values():
                refresh(workspace, review)
        _accept(workspace, proposal, set(ids))
    return ""


def _by_an_editor(workspace: Workspace, proposal: Proposal, ids: set[str]) -> set[str]:
    """Have an editor that has one of the files open accept; returns what is left to write here.

    Raises ReviewError when it did not.
    """
    shares = _shares(workspace, proposal, ids)
    for editor, its in shares:
        done = live.ask(editor, {"do": "accept", "runId": proposal.run, "hunks": sorted(its)})
        if done is None or "error" in done:
            why = done["error"] if done else "it did not answer"
            raise ReviewError(f"An editor that has a file open did not accept the change: {why}")
        workspace.decided_elsewhere(proposal)
        for review in proposal.files.values():
            refresh(workspace, review)
        states = done.get("states", {})
        for item in proposal.items:
            if states.get(item.id) == "accepted":
                item.state = "accepted"  # in the editor's buffer; the disk has it when the user saves
        if refused := sorted(ident for ident in its if states.get(ident) != "accepted"):
            raise ReviewError(f"The editor did not take {', '.join(refused)}; look there.")
    return set[str]() if shares else ids


def _shares(workspace: Workspace, proposal: Proposal, ids: set[str]) -> list[tuple[Path, set[str]]]:
    """What each editor is to accept: what it has open, and the first also what none has."""
    paths = {item.id: item.path for item in proposal.items if item.id in ids}
    found: list[tuple[Path, set[str]]] = []
    left = set(paths)
    for editor in live.others(workspace.journal.path):
        opened = set((live.ask(editor, {"do": "open"}) or {}).get("open", ()))
        its = {ident for ident in left if paths[ident] in opened}
        if its:
            found.append((editor, its))
            left -= its
    if found:
        found[0][1].update(left)
    return found


def _accept(workspace: Workspace, proposal: Proposal, wanted: set[str]) -> None:
    writes: dict[str, Write] = {}
    taken: dict[str, list[str]] = {}
    for review in proposal.files.values():
        hunks = [hunk.id for hunk in review.hunks if hunk.id in wanted and hunk.state in OPEN]
        if hunks:
            after = review.file.with_text(review.result(hunks)).encode()
            writes[review.path] = Write(review.file.encode(), after)
            taken[review.path] = hunks
    operations = [op for op in proposal.operations if op.id in wanted and op.state in OPEN]
    for op in operations:
        _plan(op, writes, proposal)
    items = [*(ident for hunks in taken.values() for ident in hunks), *(op.id for op in operations)]
    token = workspace.accepting(proposal, items)
    try:
        if writes:
            write_files(workspace.resolver, writes, accepted(workspace.resolver, writes), token)
    except RedlineError:
        workspace.ended(proposal)
        raise
    for path, hunks in taken.items():
        review = proposal.files[path]
        review.follow(review.sending(hunks))
    failed: list[RedlineError] = []
    for op in operations:
        try:
            if op.kind == "mode":
                set_executable(workspace.resolver, op.path, op.executable)
        except RedlineError as error:
            failed.append(error)
            continue
        op.state = "accepted"
        if op.kind == "rename":
            proposal.renamed(op)
    workspace.ended(proposal)
    if failed:
        raise failed[0]


def _plan(op: FileOperation, writes: dict[str, Write], proposal: Proposal) -> None:
    """Add a file operation to the writes, so that all of it happens or none."""
    review = proposal.files.get(op.path)  # a renamed file may have had some of its hunks accepted before
    data = review.file.encode() if review else op.file.encode() if op.file else b""
    match op.kind:
        case "create":
            writes[op.path] = Write(None, data, executable=op.executable)
        case "delete":
            writes[op.path] = Write(data, None)
        case "rename":
            edited = writes.pop(op.path, Write(data, data))
            writes[op.path] = Write(edited.before, None)
            writes[op.new_path] = Write(None, edited.after, like=op.path)
        case "mode":
            pass  # no bytes: done when these are written


def reject(workspace: Workspace, proposal: Proposal, ids: Iterable[str]) -> None:
    """Mark hunks and operations as rejected."""
    wanted = set(ids)
    done = [item for item in proposal.items if item.id in wanted and item.state not in ("accepted", "rejected")]
    for item in done:
        item.state = "rejected"
    workspace.decided(proposal.run, proposal.session, "rejected", [item.id for item in done])


def pending_proposals(workspace: Workspace) -> list[Proposal]:
    """Return the journal's open proposals, each file brought to what the disk has now.

    One that an editor has open stays as it was decided on there: what it accepted may not be saved yet.
    """
    proposals = workspace.proposals()
    opened = _open_in_editors(workspace) if proposals else set[str]()
    for proposal in proposals:
        for review in proposal.files.values():
            if review.path not in opened:
                refresh(workspace, review)
        workspace.settle(proposal)
    return [proposal for proposal in proposals if proposal.open]


def _open_in_editors(workspace: Workspace) -> set[str]:
    answers = [live.ask(editor, {"do": "open"}) or {} for editor in live.others(workspace.journal.path)]
    return {path for answer in answers for path in answer.get("open", ())}


def refresh(workspace: Workspace, review: FileReview) -> None:
    """Bring a file's hunks to the text that the disk has now; what cannot be read makes them stale."""
    try:
        data = workspace.resolver.read_bytes(review.path)
        text = decode(data, review.path).text if data is not None else None
    except RedlineError:
        text = None
    if text is not None:
        review.follow(text)
    for hunk in review.hunks:
        if text is None and hunk.state in OPEN:
            hunk.state = "stale"
