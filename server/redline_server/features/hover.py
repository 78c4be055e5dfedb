"""textDocument/hover: a pending hunk's reason, diff and proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsprotocol import types as lsp

from redline_server import convert

if TYPE_CHECKING:
    from redline_server.app import RedlineServer


def hover(server: RedlineServer, params: lsp.HoverParams) -> lsp.Hover | None:
    """Return what there is to say of the hunk under the position."""
    path = convert.path_of(params.text_document.uri)
    if path is None:
        return None
    server.refresh_reviews(path)
    line = params.position.line
    for place in server.reviews.hunks(path):
        span = convert.shown_range(place.review, place.hunk, server.documents.encoding)
        if span.start.line <= line <= span.end.line:
            markdown = server.client.able.markdown_hover
            kind = lsp.MarkupKind.Markdown if markdown else lsp.MarkupKind.PlainText
            text = convert.hover_text(place.entry.proposal, place.hunk, markdown=markdown)
            return lsp.Hover(contents=lsp.MarkupContent(kind=kind, value=text), range=span)
    return None
