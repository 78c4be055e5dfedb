"""A pygls server that does nothing: what ours is compared with."""

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

server = LanguageServer("floor", "1", text_document_sync_kind=lsp.TextDocumentSyncKind.Incremental)


@server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION)
def actions(_params):
    return []


if __name__ == "__main__":
    server.start_io()
