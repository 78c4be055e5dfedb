"""A proposal as unified diffs, for a reader who has no editor. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from redline_agent.text import split_lines
from redline_agent.workspace.proposal import Proposal


def diffs(proposal: Proposal) -> Iterator[str]:
    """Yield each file's diff, with everything accepted, and each file operation in a line."""
    for operation in proposal.operations:
        yield f"{operation.told}\n"
        if operation.kind == "create" and operation.file:
            yield _diff(operation.path, "", operation.file.text)
    for review in proposal.files.values():
        yield _diff(review.path, review.file.text, review.result([hunk.id for hunk in review.hunks]))


def _diff(path: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(split_lines(old), split_lines(new), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
