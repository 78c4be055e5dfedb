"""What a campaign does with what its targets found: proposals to review, patch files, or a branch with a commit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from redline_agent.errors import UsageError
from redline_agent.jobs.replica import lay, rows_of
from redline_agent.jobs.store import Row
from redline_agent.jobs.trees import Tree
from redline_agent.journal import Journal
from redline_agent.text import split_lines
from redline_agent.workspace.filereview import Hunk
from redline_agent.workspace.proposal import FileOperation, Proposal


@dataclass(slots=True)
class Changed:
    """A file before and after; None where there is none. `mode` is that of git."""

    path: str
    before: bytes | None
    after: bytes | None
    mode: int = 0o100644
    mode_before: int = 0
    """Where the mode is changed."""


def changed(proposal: Proposal, tree: Tree | None = None) -> list[Changed]:
    """Return what files a proposal leaves when all of it is accepted, as bytes; modes are those of the tree."""
    found: dict[str, Changed] = {}
    for review in proposal.files.values():
        text = review.result([hunk.id for hunk in review.hunks])
        found[review.path] = Changed(review.path, review.file.encode(), review.file.with_text(text).encode())
    for op in proposal.operations:
        data = op.file.encode() if op.file else b""
        match op.kind:
            case "create":
                found[op.path] = Changed(op.path, None, data, _mode(op))
            case "delete":
                found[op.path] = Changed(op.path, data, None)
            case "rename":
                edited = found.pop(op.path, Changed(op.path, data, data))
                found[op.path] = Changed(op.path, edited.before, None)
                blob = tree.blob(op.path) if tree else None
                found[op.new_path] = Changed(op.new_path, None, edited.after, blob[1] if blob else 0o100644)
            case "mode":
                edited = found.get(op.path, Changed(op.path, data, data))
                found[op.path] = replace(edited, mode=_mode(op), mode_before=_other(_mode(op)))
    return [found[path] for path in sorted(found)]


def patch(changes: Sequence[Changed]) -> str:
    """Return changes as a patch that `git apply` takes."""
    parts: list[str] = []
    for each in changes:
        before, after = ((data or b"").decode("utf-8", "surrogateescape") for data in (each.before, each.after))
        old, new = _quoted(f"a/{each.path}"), _quoted(f"b/{each.path}")
        parts.append(f"diff --git {old} {new}\n")
        if each.mode_before:
            parts.append(f"old mode {each.mode_before:o}\nnew mode {each.mode:o}\n")
        if each.before is None:
            parts.append(f"new file mode {each.mode:o}\n")
            old = "/dev/null"
        if each.after is None:
            parts.append(f"deleted file mode {each.mode:o}\n")
            new = "/dev/null"
        lines = difflib.unified_diff(_lines(before), _lines(after), old, new)
        parts += (line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
    return "".join(parts)


def _mode(op: FileOperation) -> int:
    return 0o100755 if op.executable else 0o100644


def _other(mode: int) -> int:
    return 0o100644 if mode == 0o100755 else 0o100755


def _quoted(name: str) -> str:
    """Return a name as git writes it in a patch."""
    if not any(char in '"\\' or ord(char) < 32 or ord(char) == 127 for char in name):
        return name
    known = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(known.get(c, f"\\{ord(c):03o}" if ord(c) < 32 or ord(c) == 127 else c) for c in name) + '"'


def _lines(text: str) -> list[str]:
    """Lines as git has them: a carriage return is a character like others."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def write_patch(folder: Path, row: Row, proposal: Proposal, tree: Tree) -> Path:
    """Write a target's patch; returns the file. Raises UsageError, also for what no patch of text can say."""
    name = "".join(char if char.isascii() and char.isprintable() and char not in '/\\:*?"<>|' else "_"
                   for char in row.target.label)[-80:].lstrip(".-")  # fmt: skip
    path = folder / f"{name}-{row.target.key[:8]}.patch"
    changes = changed(proposal, tree)
    binary = next((each.path for each in changes if b"\0" in (each.before or b"") + (each.after or b"")), "")
    if binary:
        raise UsageError(f"{binary} is in an encoding that a patch cannot have.", hint='Use output = "branch".')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(patch(changes).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UsageError(f"The patch {path} cannot be written: {error}.") from error
    return path


def hand_over(campaign: Journal, user: Journal, row: Row) -> None:
    """Put a target's run into a repository's own journal, where the editor and `redline review` find its proposal."""
    lay(user, rows_of(campaign, row.session, row.run))


@dataclass(slots=True)
class Merged:
    """Several targets' changes to one commit. What overlaps with an earlier target's is left out with its target."""

    changes: dict[str, tuple[bytes, int] | None] = field(default_factory=dict[str, tuple[bytes, int] | None])
    taken: list[Row] = field(default_factory=list[Row])
    left: dict[str, str] = field(default_factory=dict[str, str])


def merged(tree: Tree, found: Sequence[tuple[Row, Proposal]]) -> Merged:
    """Put targets' proposals together; all were made of the same commit."""
    out = Merged()
    hunks: dict[str, list[Hunk]] = {}
    operations: dict[str, FileOperation] = {}
    for row, proposal in found:
        why = _overlap(proposal, hunks, operations)
        if why:
            out.left[row.target.key] = why
            continue
        out.taken.append(row)
        for review in proposal.files.values():
            known = hunks.setdefault(review.path, [])
            known += [hunk for hunk in review.hunks if not any(_same(hunk, each) for each in known)]
        for op in proposal.operations:
            operations[op.path] = op
            if op.new_path:
                operations[op.new_path] = op
    texts: dict[str, bytes] = {}
    files = {review.path: review.file for _, proposal in found for review in proposal.files.values()}
    for path, its in hunks.items():
        lines = split_lines(files[path].text)
        for hunk in sorted(its, key=lambda each: (each.start, each.end), reverse=True):
            lines[hunk.start : hunk.end] = hunk.new
        texts[path] = files[path].with_text("".join(lines)).encode()
    for path, data in texts.items():
        known_blob = tree.blob(path)
        out.changes[path] = data, known_blob[1] if known_blob else 0o100644
    _carry_out(tree, out, list({id(op): op for op in operations.values()}.values()))
    return out


def _carry_out(tree: Tree, out: Merged, operations: Sequence[FileOperation]) -> None:
    """Add file operations to the changed texts. What goes, goes first: a name may be free for another file then."""
    edited = dict(out.changes)
    for op in operations:
        if op.kind in ("delete", "rename"):
            out.changes[op.path] = None
    for op in operations:
        data = op.file.encode() if op.file else b""
        known = edited.get(op.path)
        match op.kind:
            case "create":
                out.changes[op.path] = data, _mode(op)
            case "mode":
                out.changes[op.path] = known[0] if known else data, _mode(op)
            case "rename":
                blob = tree.blob(op.path)
                out.changes[op.new_path] = known or (data, blob[1] if blob else 0o100644)
            case "delete":
                pass


def _same(a: Hunk, b: Hunk) -> bool:
    return (a.start, a.end, a.new) == (b.start, b.end, b.new)


def _overlap(proposal: Proposal, hunks: dict[str, list[Hunk]], operations: dict[str, FileOperation]) -> str:
    for review in proposal.files.values():
        if review.path in operations:
            return f"another target moves or deletes {review.path}"
        for hunk in review.hunks:
            for each in hunks.get(review.path, []):
                empty = hunk.start == hunk.end or each.start == each.end  # an insertion has no lines of its own
                apart = (hunk.end < each.start or each.end < hunk.start) if empty else \
                    (hunk.end <= each.start or each.end <= hunk.start)  # fmt: skip
                if not apart and not _same(hunk, each):
                    return f"another target changes {review.path} at line {hunk.start + 1}"
    for op in proposal.operations:
        for path in (op.path, op.new_path):
            if path and (path in operations or path in hunks):
                return f"another target changes {path}"
    return ""
