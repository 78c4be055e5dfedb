"""The changes of a document as whole lines, in their order: pending hunks follow them one by one, so that of several
equal lines the right ones are moved. Bounded; what is too large, or too long ago, is left to a diff.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from redline_agent.workspace.hunks import Change, changes
from redline_agent.workspace.mapping import Step

STEPS_MAX = 4_000
STEP_LINES_MAX = 200
"""A change of more lines is more than typing: a formatter, a reload."""


class Trail:
    """The latest steps; `count` is how many there were in all."""

    def __init__(self) -> None:
        self.count = 0
        self._steps: deque[Step | None] = deque(maxlen=STEPS_MAX)

    def add(self, step: Step | None) -> None:
        """Note a step, None for one that is not known."""
        self.count += 1
        self._steps.append(step)

    def since(self, count: int) -> list[Step]:
        """Return the steps after the first `count`; [] where one of them is not known."""
        size = self.count - count
        if size > len(self._steps):
            return []
        steps = list(self._steps)[len(self._steps) - size :]
        known = [step for step in steps if step is not None]
        return known if len(known) == size else []


def whole(start: int, end: int, new: Sequence[str]) -> Step | None:
    """Return the step that replaced whole lines [start, end); None when it is too large."""
    if end - start > STEP_LINES_MAX or len(new) > STEP_LINES_MAX:
        return None
    return Step((Change(start, end, tuple(new), start),), exact=True)


def within(first: int, before: Sequence[str], after: Sequence[str], *, at_end: bool) -> Step | None:
    """Return the step that turned the lines `before`, from line `first` on, into `after`; None when it is too large.

    `at_end`: it went from the end of a line to the end of one, so what it begins with is as before.
    """
    if at_end and before and after and before[0] == after[0]:
        return whole(first + 1, first + len(before), after[1:])
    if len(before) == len(after) == 1:  # typing
        return whole(first, first + 1, after)
    if len(before) > STEP_LINES_MAX or len(after) > STEP_LINES_MAX:
        return None
    found = changes(before, after)
    moved = (Change(c.start + first, c.end + first, c.new, c.new_start + first) for c in found)
    return Step(tuple(moved), exact=all(c.new and c.end > c.start for c in found))
