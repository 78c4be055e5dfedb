"""A hunk sent back with a word: what the agent begins with, and how what it makes of it replaces the hunk. Pure but for
the overlay.
"""

from __future__ import annotations

from dataclasses import dataclass

from redline_agent.errors import ReviewError
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Access, text_digest
from redline_agent.text import split_lines
from redline_agent.workspace.aftermath import as_it_went
from redline_agent.workspace.dependencies import link
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposal import Proposal

AGAIN = frozenset({"pending", "conflicted", "stale", "rejected", "undone"})
"""States in which a hunk can be sent back."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A hunk of a proposal, and the user's word on it; `directive` is the comment line that the word was typed in."""

    proposal: Proposal
    hunk: str
    text: str
    directive: str = ""

    @property
    def found(self) -> tuple[FileReview, Hunk]:
        """The hunk and its file; raises ReviewError when it is not there, or decided on."""
        for review in self.proposal.files.values():
            for hunk in review.hunks:
                if hunk.id == self.hunk:
                    if hunk.state not in AGAIN or hunk.id in self.proposal.claimed:
                        raise ReviewError(f"{hunk.id} is {hunk.state}, so it cannot be revised.")
                    return review, hunk
        raise ReviewError(f"The proposal of {self.proposal.run} has no hunk {self.hunk!r}.")

    @property
    def lines(self) -> tuple[int, int]:
        """The lines of the change once it is laid into its file, from 1, both ends included."""
        _, hunk = self.found
        return hunk.start + 1, hunk.start + max(1, len(hunk.new))

    @property
    def instruction(self) -> str:
        """What the agent is asked: the user's word, and which change it is about. The change itself is shown it."""
        review, _ = self.found
        first, last = self.lines
        where = f"lines {first} to {last} of {review.path}"
        return (
            f"{self.text}\n\n(This is about one change of your proposal: {where}, shown as you proposed it. Revise it.)"
        )

    @property
    def history(self) -> str:
        """What the user made of the lines since: what was there, what was proposed, what is there now."""
        review, hunk = self.found
        return as_it_went(hunk, review) if hunk.state == "conflicted" else ""

    def lay(self, overlay: Overlay, keeper: Keeper) -> None:
        """Put the change into a new overlay, as far as it still fits, so that the agent goes on from it."""
        review, hunk = self.found
        seen = overlay.find(review.path)
        if seen is None:
            return
        text = seen.file.text
        if hunk.state != "conflicted" and text == review.file.text:
            text = review.result([hunk.id])
        lines = split_lines(text)
        if self.directive and lines.count(self.directive) == 1:
            lines.remove(self.directive)
        text = "".join(lines)
        if text != seen.file.text:
            permit = keeper.permit(Access("write", review.path, content=text_digest(text)))
            origin = Origin(0, hunk.origin.call_id, hunk.origin.tool, hunk.reason)
            overlay.write(review.path, text, origin, permit)


def merge(revision: Revision, made: Proposal, texts: dict[str, str]) -> None:
    """Let what a run made of a hunk take its place in the proposal; `texts` are the files of now, by path.

    Raises ReviewError when the hunk was decided on meanwhile.
    """
    proposal = revision.proposal
    review, old = revision.found
    review.hunks.remove(old)
    taken = {item.id for item in proposal.items} | {old.id}
    names: dict[str, str] = {}
    for item in made.items:
        number = 1
        while f"{old.id}r{number}" in taken:
            number += 1
        names[item.id] = f"{old.id}r{number}"
        taken.add(names[item.id])
    for item in made.items:
        item.id = names[item.id]
        item.depends_on = tuple(names.get(each, each) for each in item.depends_on)
    for path, new in made.files.items():
        new.follow(texts.get(path, new.file.text))
        here = proposal.files.get(path)
        if here is None:
            proposal.files[path] = new
        else:
            here.hunks = sorted([*here.hunks, *new.hunks], key=lambda each: (each.start, each.end))
            here.look()
    proposal.operations += made.operations
    spoken = {item.path for item in made.proof}
    proposal.proof = [*(item for item in proposal.proof if item.path not in spoken), *made.proof]
    for item in proposal.items:
        item.depends_on = tuple(each for each in item.depends_on if each != old.id)
    link(proposal)
    proposal.revision += 1
