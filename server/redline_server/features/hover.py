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
        if place.hunk.start <= line <= max(place.hunk.start, place.hunk.end - 1):
            markdown = server.client.able.markdown_hover
            kind = lsp.MarkupKind.Markdown if markdown else lsp.MarkupKind.PlainText
            text = convert.hover_text(place.entry.proposal, place.hunk, markdown=markdown)
            span = convert.shown_range(place.review, place.hunk, server.documents.encoding)
            return lsp.Hover(contents=lsp.MarkupContent(kind=kind, value=text), range=span)
    return None
