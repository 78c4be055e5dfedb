"""Proposals as the journal has them: what was decided on each, and what a process that died in mid-accept left.

An accept is written down before it is carried out, so that afterwards each file tells by its own text whether it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from redline_agent.errors import RedlineError
from redline_agent.events import Accepting, HunksDecided, Proposed
from redline_agent.journal import Journal
from redline_agent.safety.paths import Resolver
from redline_agent.text import split_lines
from redline_agent.workspace.applying import Write, accepted, is_executable, sweep, write_files
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.proposal import FileOperation, Proposal
from redline_agent.workspace.stored import load
from redline_agent.workspace.textfile import decode

_EVENTS = ("proposed", "accepting", "decided")


def proposals(journal: Journal, run: str = "", *, alive: bool = False) -> dict[str, Proposal]:
    """Return every proposal of the journal (or one run's) by run, oldest first, the decisions applied in their order.

    What was being accepted when its process died is `unconfirmed`; `applying` where somebody (`alive`) is accepting.
    """
    found: dict[str, Proposal] = {}
    known = journal.newest(_EVENTS)  # what comes while this reads is seen once more, which changes nothing
    for ident, event, _ in journal.with_owner(_EVENTS, run):
        match event:
            case Proposed() if event.proposal:
                tokens = found[ident].tokens if ident in found else {}
                found[ident] = load(event.proposal)
                found[ident].tokens |= tokens
            case Accepting() if ident in found:
                _begin(found[ident], event, alive=alive)
            case HunksDecided() if ident in found:
                apply(found[ident], event)
            case _:
                pass
    for proposal in found.values():
        proposal.known = known
    return found


def states(journal: Journal, proposal: Proposal) -> dict[str, str]:
    """Return the last decision on each item that another process made since what the proposal knows of."""
    found: dict[str, str] = {}
    for seq, event, owner in journal.since(proposal.run, "decided", proposal.known):
        if isinstance(event, HunksDecided) and owner != os.getpid():
            found |= dict.fromkeys(event.hunks, event.state)
        proposal.known = seq
    return found


def take_over(proposal: Proposal, known: dict[str, str]) -> list[str]:
    """Take over what another process decided; returns the ids. An accepted hunk is `unconfirmed` until it shows."""
    for item in proposal.items:  # another process's accept that came to nothing
        if item.state == "applying" and item.id not in proposal.claimed and known.get(item.id) == "pending":
            item.state = "pending"
            proposal.tokens.pop(item.id, None)
    waiting = [item for item in proposal.items if item.state in ("pending", "conflicted", "stale")
               or (item.state == "applying" and item.id not in proposal.claimed)]  # fmt: skip
    late = [item for item in waiting if known.get(item.id) in ("accepted", "rejected")]
    accepted = {item.id for item in late if known[item.id] == "accepted"}
    for review in proposal.files.values():
        ids = [hunk.id for hunk in review.hunks if hunk.id in accepted]
        if ids:
            review.sending(ids)
            review.look()
    for item in late:
        if item.id not in accepted:
            item.state = "rejected"
        elif item.state == "applying":
            item.state = "unconfirmed"
        elif isinstance(item, FileOperation):
            item.state = "accepted"
            if item.kind == "rename":
                proposal.renamed(item)
    return [item.id for item in late]


def _begin(proposal: Proposal, event: Accepting, *, alive: bool) -> None:
    taken = set(event.hunks)
    for review in proposal.files.values():
        ids = [hunk.id for hunk in review.hunks if hunk.id in taken]
        if ids:
            review.sending(ids)
    for item in proposal.items:
        if item.id in taken:
            item.state = "applying" if alive else "unconfirmed"
            proposal.tokens[item.id] = event.token


def apply(proposal: Proposal, event: HunksDecided) -> None:
    """Bring a loaded proposal to where a decision left it; accepted hunks are in the text from then on."""
    taken = set(event.hunks)
    for review in proposal.files.values():
        ids = [hunk.id for hunk in review.hunks if hunk.id in taken]
        if event.state == "accepted" and ids:
            review.follow(review.sending(ids))
        elif event.state == "undone" and ids:
            review.follow(review.reverting(ids))
        elif event.state == "pending" and ids:
            review.not_applied(ids)
        for hunk in review.hunks:
            if hunk.id in taken:
                hunk.state = event.state  # pyright: ignore[reportAttributeAccessIssue]  the journal's own word
    for operation in proposal.operations:
        if operation.id not in taken:
            continue
        if operation.kind == "rename" and event.state == "accepted":
            proposal.renamed(operation)
        elif operation.kind == "rename" and event.state == "undone":
            proposal.renamed(replace(operation, path=operation.new_path, new_path=operation.path))
        operation.state = event.state  # pyright: ignore[reportAttributeAccessIssue]  as above


def settle(proposal: Proposal, resolver: Resolver) -> dict[str, list[str]]:
    """Say of each unconfirmed item whether it is in its file, as it is now: by state, its ids."""
    for op in proposal.operations:
        if op.id in proposal.tokens and op.state == "unconfirmed":
            if op.kind == "rename":
                _take_back_half(op, proposal, resolver)
            op.state = "accepted" if carried_out(op, resolver) else "pending"
            if op.state == "accepted" and op.kind == "rename":
                proposal.renamed(op)
                _look(proposal.files.get(op.new_path), resolver)
    for review in proposal.files.values():
        for hunk in review.hunks:
            if hunk.id in proposal.tokens and hunk.state == "unconfirmed" and _is_old(review, hunk):
                hunk.state = "pending"
    return ended(proposal, resolver)


ENDS = ("accepted", "pending", "conflicted", "rejected")
"""States in which an accept that was begun has ended."""


def ended(proposal: Proposal, resolver: Resolver, states: Sequence[str] = ENDS) -> dict[str, list[str]]:
    """Return, by state, the items whose accept has ended in one of some states; each is said once."""
    settled: dict[str, list[str]] = {}
    for item in proposal.items:
        if item.id in proposal.tokens and item.state in states:
            token = proposal.tokens.pop(item.id)
            settled.setdefault("accepted" if item.state == "accepted" else "pending", []).append(item.id)
            for path in (item.path, item.new_path if isinstance(item, FileOperation) else ""):
                with suppress(RedlineError, OSError):
                    sweep(resolver, path, token)
    return settled


def _look(review: FileReview | None, resolver: Resolver) -> None:
    """Bring the hunks of a file that was moved to what it is under its new name."""
    if review is None:
        return
    for hunk in review.hunks:
        if hunk.state == "stale":  # it was looked for under the old name
            hunk.state = "pending"
    with suppress(RedlineError):
        data = resolver.read_bytes(review.path)
        if data is not None:
            review.follow(decode(data, review.path).text)


def _take_back_half(op: FileOperation, proposal: Proposal, resolver: Resolver) -> None:
    """A rename is a new file and then the old one's end: where the second is missing, what was made goes again."""
    before, made = resolver.read_bytes(op.path), resolver.read_bytes(op.new_path)
    if before is None or made is None:
        return
    review = proposal.files.get(op.path)
    ours = [before]
    if review is not None:
        ours.append(review.file.with_text(review.result(proposal.tokens)).encode())
    if made in ours:
        writes = {op.new_path: Write(made, None)}
        write_files(resolver, writes, accepted(resolver, writes))


def _is_old(review: FileReview, hunk: Hunk) -> bool:
    lines = split_lines(review.file.text)
    here = tuple(lines[hunk.start : hunk.end])
    return here == hunk.old and (bool(hunk.old) or here != tuple(lines[hunk.start : hunk.start + len(hunk.new)]))


def carried_out(op: FileOperation, resolver: Resolver) -> bool:
    """Whether the disk is as a file operation leaves it."""
    here = resolver.place(op.path)
    match op.kind:
        case "create":
            return here.is_file() and resolver.read_bytes(op.path) == (op.file.encode() if op.file else b"")
        case "delete":
            return not here.exists()
        case "rename":
            return not here.exists() and resolver.place(op.new_path).exists()
        case "mode":
            return is_executable(resolver, op.path) == op.executable
