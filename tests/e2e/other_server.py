"""A second language server, to run beside Redline in the same buffer: it must go on working."""

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

server = LanguageServer("other", "1")


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
def hover(ls, params):
    document = ls.workspace.get_text_document(params.text_document.uri)
    return lsp.Hover(contents=f"OTHER v{document.version} {len(document.source)}")


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
def check(ls, params):
    document = ls.workspace.get_text_document(params.text_document.uri)
    at = lsp.Position(0, 0)
    found = lsp.Diagnostic(range=lsp.Range(at, at), message=f"other: {len(document.source)}", source="other")
    ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri=document.uri, diagnostics=[found]))


if __name__ == "__main__":
    server.start_io()
