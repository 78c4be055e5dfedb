"""Between the agent's types and LSP's. Pure; nothing else builds an edit or a diagnostic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.uris import from_fs_path, to_fs_path
from redline_agent.text import escape_hidden, markdown_plain, one_line, split_lines
from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import changes
from redline_agent.workspace.proposal import FileOperation, ProofItem, Proposal

from redline_server.positions import Encoding, position

SOURCE = "redline"


def path_of(uri: str) -> Path | None:
    """Return the real path of a `file:` URI, None for any other."""
    if not uri.startswith("file:"):
        return None
    path = to_fs_path(uri)
    return Path(path).resolve() if path else None


def uri_of(path: Path) -> str:
    """Return the `file:` URI of a path."""
    uri = from_fs_path(str(path))
    if uri is None:
        raise ValueError(f"{path} has no URI")
    return uri


def _range(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int], encoding: Encoding) -> lsp.Range:
    first = position(lines, *start, encoding)
    last = position(lines, *end, encoding)
    return lsp.Range(lsp.Position(*first), lsp.Position(*last))


def edits_between(before: str, after: str, encoding: Encoding) -> list[lsp.TextEdit]:
    """Text edits from one text to another: whole lines, trimmed to what differs, never overlapping."""
    old, new = split_lines(before), split_lines(after)
    return [_edit(old, change.start, change.end, change.new, encoding) for change in changes(old, new)]


def _edit(old: Sequence[str], start: int, end: int, new: Sequence[str], encoding: Encoding) -> lsp.TextEdit:
    """Replace lines [start, end); of one line by one with the same end, only what differs."""
    if end - start == len(new) == 1:
        was, now = old[start].rstrip("\r\n"), new[0].rstrip("\r\n")
        if old[start][len(was) :] == new[0][len(now) :]:
            head = tail = 0
            while head < min(len(was), len(now)) and was[head] == now[head]:
                head += 1
            while tail < min(len(was), len(now)) - head and was[-1 - tail] == now[-1 - tail]:
                tail += 1
            span = _range(old, (start, head), (start, len(was) - tail), encoding)
            return lsp.TextEdit(span, now[head : len(now) - tail])
    text = "".join(new)
    if new and old and end == len(old) and (line_end := _shared_end(old[-1], new[-1])):
        # At the end of a text the last line's end stays: Neovim makes an empty line of one that comes behind it.
        first = (start, 0) if start < end else (end - 1, len(old[-1]) - len(line_end))
        span = _range(old, first, (end - 1, len(old[-1]) - len(line_end)), encoding)
        return lsp.TextEdit(span, (line_end if start == end else "") + text.removesuffix(line_end))
    return lsp.TextEdit(_range(old, (start, 0), (end, 0), encoding), text)


def _shared_end(one: str, other: str) -> str:
    """The line end of both lines, "" when they have none or not the same."""
    ends = {line[len(line.rstrip("\r\n")) :] for line in (one, other)}
    return ends.pop() if len(ends) == 1 else ""


def hunk_range(review: FileReview, hunk: Hunk, encoding: Encoding) -> lsp.Range:
    """Return the hunk's range in the text that the editor has now."""
    lines = split_lines(review.file.text)
    return _range(lines, (hunk.start, 0), (hunk.end, 0), encoding)


def shown_range(review: FileReview, hunk: Hunk, encoding: Encoding) -> lsp.Range:
    """Return where the hunk is shown: its lines without the last line's end; the line itself for an insertion."""
    lines = split_lines(review.file.text)
    if hunk.end > hunk.start:
        last = lines[hunk.end - 1].rstrip("\r\n") if hunk.end <= len(lines) else ""
        return _range(lines, (hunk.start, 0), (hunk.end - 1, len(last)), encoding)
    here = min(hunk.start, max(0, len(lines) - 1))
    text = lines[here].rstrip("\r\n") if lines else ""
    return _range(lines, (here, 0), (here, len(text)), encoding)


def diagnostic(proposal: Proposal, review: FileReview, hunk: Hunk, encoding: Encoding) -> lsp.Diagnostic:
    """Return a pending hunk as an Information diagnostic."""
    state = "" if hunk.state == "pending" else f" [{hunk.state}]"
    badge = f" [! {hunk.badge}]" if hunk.badge else ""
    return lsp.Diagnostic(
        range=shown_range(review, hunk, encoding),
        severity=lsp.DiagnosticSeverity.Information,
        source=SOURCE,
        code=hunk.id,
        message=f"Proposed: {one_line(hunk.reason)}{badge}{state}\n{short_diff(hunk)}",
        data={"runId": proposal.run, "hunk": hunk.id},
    )


def short_diff(hunk: Hunk, lines_max: int = 6) -> str:
    """Return the hunk's first lines as a diff, hidden characters escaped."""
    shown = [f"- {line}" for line in hunk.old[:lines_max]] + [f"+ {line}" for line in hunk.new[:lines_max]]
    more = ["…"] if max(len(hunk.old), len(hunk.new)) > lines_max else []
    return "\n".join([escape_hidden(line.rstrip("\r\n")) for line in shown] + more)


def hover_text(proposal: Proposal, hunk: Hunk, *, markdown: bool) -> str:
    """Return what a hover says of a hunk: reason, diff, proof. Nothing in it is a link."""
    proof = [
        f"{item.check}{f' of {item.path}' if item.path and item.path != hunk.path else ''}: {item.state}, {item.detail}"
        for item in proposal.proof_of(hunk.path)
    ]
    needs = [f"needs {', '.join(hunk.depends_on[:3])}"] if hunk.depends_on else []
    badge = [f"left out of a bulk accept: {hunk.badge}"] if hunk.badge else []
    head = f"Redline {hunk.id} ({hunk.state}): {one_line(hunk.reason, 300)}"
    if not markdown:
        return "\n".join([head, *needs, *badge, short_diff(hunk, 20), *(escape_hidden(line) for line in proof)])
    fence = "`" * max(3, 1 + _longest_ticks("".join(hunk.old + hunk.new)))
    listed = [f"- {markdown_plain(line)}" for line in [*needs, *badge, *proof]]
    return "\n".join([markdown_plain(head), "", f"{fence}diff", short_diff(hunk, 20), fence, "", *listed])


def _longest_ticks(text: str) -> int:
    longest = run = 0
    for char in text:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


def proposal_json(proposal: Proposal, root: Path, versions: dict[str, int], encoding: Encoding) -> dict[str, Any]:
    """Return a proposal in the shape of `redline.proposals`; `versions` has the open documents' by path."""
    return {
        "runId": proposal.run,
        "instruction": proposal.instruction,
        "state": proposal.state,
        "revision": proposal.revision,
        "hunks": [
            {
                "id": hunk.id,
                "uri": uri_of(root / hunk.path),
                "version": versions.get(hunk.path),
                "range": _range_json(hunk_range(review, hunk, encoding)),
                "oldText": "".join(hunk.old),
                "newText": "".join(hunk.new),
                "reason": hunk.reason,
                "origin": hunk.origin.as_json(),
                "dependsOn": list(hunk.depends_on),
                **({"badge": hunk.badge} if hunk.badge else {}),
                "state": proposal.state_of(hunk),
                "proof": [_proof_json(item) for item in proposal.proof_of(hunk.path)],
            }
            for review in proposal.files.values()
            for hunk in review.hunks
        ],
        "fileOperations": [{**operation_json(op, root), "state": proposal.state_of(op)} for op in proposal.operations],
        "proof": [_proof_json(item) for item in proposal.proof_now],
    }


def operation_json(op: FileOperation, root: Path) -> dict[str, Any]:
    """Return a file operation in the shape of `redline.proposals`."""
    value: dict[str, Any] = {
        "id": op.id,
        "kind": op.kind,
        "uri": uri_of(root / op.path),
        "reason": op.reason,
    }
    if op.new_path:
        value["newUri"] = uri_of(root / op.new_path)
    if op.depends_on:
        value["dependsOn"] = list(op.depends_on)
    if op.badge:
        value["badge"] = op.badge
    if op.kind == "mode":
        value["executable"] = op.executable
    if op.file and op.kind == "create":
        value["newText"] = op.file.text
    return value


def _range_json(value: lsp.Range) -> dict[str, Any]:
    return {
        "start": {"line": value.start.line, "character": value.start.character},
        "end": {"line": value.end.line, "character": value.end.character},
    }


def _proof_json(item: ProofItem) -> dict[str, Any]:
    return item.as_json()
