"""textDocument/codeLens: accept, reject and the diff above each pending hunk; a run above each directive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp
from redline_agent.text import one_line
from redline_agent.workspace.filereview import Hunk

from redline_server import convert
from redline_server.features.code_action import directive_run

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


def code_lenses(server: RedlineServer, params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
    """Return the file's lenses, complete, so that nothing needs resolving."""
    path = convert.path_of(params.text_document.uri)
    document = server.documents.get(params.text_document.uri)
    if path is None or document is None:
        return []
    server.refresh_reviews(path)
    found: list[lsp.CodeLens] = []
    for place in server.reviews.hunks(path):
        run, hunk = place.entry.proposal.run, place.hunk
        found += _three(run, hunk, f"{one_line(hunk.reason, 40)}{_arrow(hunk)}")
    for line, words in document.directives():
        found.append(
            _lens(line, f"Redline: {one_line(words, 60)}", "redline.run", directive_run(document, line, words))
        )
    return found


def _arrow(hunk: Hunk) -> str:
    """Return the hunk's first new line, after an arrow."""
    first = next((line for line in hunk.new if line.strip()), "")
    return f"  →  {one_line(first, 60)}" if first else "  →  removed" if hunk.old else ""


def _three(run: str, hunk: Hunk, words: str) -> Iterator[lsp.CodeLens]:
    one = {"runId": run, "hunks": [hunk.id]}
    if hunk.state == "pending":
        yield _lens(hunk.start, f"Accept {hunk.id}", "redline.accept", one)
    yield _lens(hunk.start, f"Reject {hunk.id}", "redline.reject", one)
    note = "" if hunk.state == "pending" else f" [{hunk.state}]"
    yield _lens(hunk.start, f"{words}{note}", "redline.showDiff", {"runId": run})


def _lens(line: int, title: str, command: str, argument: dict[str, Any]) -> lsp.CodeLens:
    at = lsp.Position(line, 0)
    return lsp.CodeLens(
        range=lsp.Range(at, at), command=lsp.Command(title=title, command=command, arguments=[argument])
    )
