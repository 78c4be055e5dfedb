"""The part of a proposal that was accepted, as an overlay to prove. It is in the files already, so what was before it
is an overlay as well.
"""

from __future__ import annotations

from redline_agent.safety.paths import Resolver
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Buffers, Edit, Overlay, Touched
from redline_agent.workspace.proposal import Proposal
from redline_agent.workspace.textfile import TextFile


def overlays(proposal: Proposal, resolver: Resolver, buffers: Buffers | None) -> tuple[Overlay, Overlay]:
    """Return the files with what was accepted, as changes, and the files without it."""
    after, before = Overlay(resolver, buffers), Overlay(resolver, buffers)

    def changed(path: str, old: TextFile | None, new: TextFile | None, origin: Origin) -> None:
        kind = new or old or TextFile("")
        after.touched[path] = Touched(old, kind, [Edit(origin, new.text if new else None)], pinned=True)
        before.touched[path] = Touched(new, kind, [Edit(origin, old.text if old else None)], pinned=True)

    for review in proposal.files.values():
        taken = [hunk for hunk in review.hunks if hunk.state == "accepted"]
        if taken:
            old = review.file.with_text(review.without(hunk.id for hunk in taken))
            changed(review.path, old, review.file, taken[0].origin)
    for op in proposal.operations:
        if op.state != "accepted":
            continue
        match op.kind:
            case "create":
                changed(op.path, None, op.file, op.origin)
            case "delete":
                changed(op.path, op.file, None, op.origin)
            case "rename":
                moved = proposal.files.get(op.new_path)
                changed(op.path, op.file, None, op.origin)
                changed(op.new_path, None, moved.file if moved else op.file, op.origin)
            case "mode":
                pass  # what is checked is text
    return after, before
