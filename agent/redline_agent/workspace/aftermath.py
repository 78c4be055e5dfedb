"""What became of a proposal: what the user accepted, rejected, took back, and exactly what they changed in it. Pure."""

from __future__ import annotations

from redline_agent.text import split_lines
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.proposal import Proposal

_SAID = {
    "pending": "not decided on",
    "applying": "being applied",
    "unconfirmed": "sent to the editor, not confirmed",
    "stale": "not decided on; its file changed outside the editor",
    "undone": "accepted and taken back",
}


def became(proposal: Proposal, but: str = "") -> str:
    """Return what became of each item, and in full what the user changed; "" when nothing was done to any (`but` one).

    The files of the proposal are to be as they are now.
    """
    by_fate: dict[str, list[str]] = {}
    changed: list[str] = []
    for item in proposal.items:
        if item.id == but:
            continue
        fate = _SAID.get(item.state, item.state)
        if isinstance(item, Hunk) and (how := _changed(proposal.files[item.path], item)):
            changed.append(how)
            fate = "changed by the user since, as shown"
        by_fate.setdefault(fate, []).append(f"{item.id} ({item.path})")
    if set(by_fate) <= {_SAID["pending"]}:
        return ""
    said = [f"{', '.join(items)}: {fate}." for fate, items in by_fate.items()]
    return "\n".join([*said, *changed])


def as_it_went(hunk: Hunk, review: FileReview) -> str:
    """Return a hunk's lines as they were, as they were proposed, and as the user has them now."""
    now = "".join(split_lines(review.file.text)[hunk.start : hunk.end])
    parts = (("Before", "".join(hunk.old)), ("Proposed", "".join(hunk.new)), ("As the user has it now", now))
    return "\n".join(f"{what}:\n{text}" for what, text in parts)


def _changed(review: FileReview, hunk: Hunk) -> str:
    """A hunk that the user has changed: before it was accepted, or after."""
    here = tuple(split_lines(review.file.text)[hunk.start : hunk.end])
    if hunk.state == "conflicted" or (hunk.state == "accepted" and here != hunk.new):
        when = "before deciding on it" if hunk.state == "conflicted" else "after accepting it"
        return f"{hunk.id}, which the user changed {when}:\n{as_it_went(hunk, review)}"
    return ""
