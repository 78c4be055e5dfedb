"""pygls's protocol with documents of our own, and an answer to every request that cannot be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

if TYPE_CHECKING:
    from redline_server.app import RedlineServer

REQUEST_CANCELLED = -32800
COMPLAINTS_MAX = 20
"""Messages that could not be read are logged up to this many, then one in a thousand."""

logger = logging.getLogger(__name__)


class RedlineProtocol(LanguageServerProtocol):
    """pygls's protocol with documents of our own, and an answer to every request that cannot be read."""

    _unread = 0
    _server: RedlineServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def receive(self, data: Any) -> None:
        """Take one message in, already parsed (a ValueError: it was not JSON)."""
        if not isinstance(data, dict):
            code, text = (-32700, f"Not JSON: {data}") if isinstance(data, ValueError) else (-32600, "Not an object.")
            self._send_data({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}})
            return
        message = cast("dict[str, Any]", data)
        if "id" in message and "method" in message and (wrong := self._wrong_id(message["id"])):
            ident = message["id"] if isinstance(message["id"], int | str) else None
            self._send_data({"jsonrpc": "2.0", "id": ident, "error": {"code": -32600, "message": wrong}})
            return
        try:
            structured = self.structure_message(message)
            if isinstance(structured, dict):
                raise JsonRpcInvalidParams(message="Not a JSON-RPC 2.0 message.")
        except JsonRpcException as error:
            self._refuse(message, error)
            return
        self.handle_message(cast("Any", structured))

    def _wrong_id(self, ident: Any) -> str:
        if not isinstance(ident, int | str) or isinstance(ident, bool):
            return "The id of a request is a string or an integer."
        return f"The id {ident!r} belongs to a request that is still open." if ident in self._request_futures else ""

    def cancelled_early(self, ident: int | str) -> None:
        """Answer a request that was cancelled before it was begun."""
        error = {"code": REQUEST_CANCELLED, "message": "Cancelled before it began."}
        self._send_data({"jsonrpc": "2.0", "id": ident, "error": error})

    def _refuse(self, message: dict[str, Any], error: JsonRpcException) -> None:
        ident = message.get("id")
        ident = ident if isinstance(ident, int | str) else None
        if ident is not None and "method" in message:
            text = f"The parameters of {message['method']} are malformed."
            self._send_data({"jsonrpc": "2.0", "id": ident, "error": {"code": error.code, "message": text}})
        elif ident is not None:
            future = self._request_futures.pop(ident, None)
            if future is not None and not future.done():
                future.set_exception(error)
        self._unread += 1
        if self._unread <= COMPLAINTS_MAX or self._unread % 1_000 == 0:
            logger.warning("A message could not be read (the %d. one): %s", self._unread, error)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: lsp.DidOpenTextDocumentParams) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a document in."""
        self._server.opened(params.text_document)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: lsp.DidChangeTextDocumentParams) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a change in."""
        self._server.changed(params)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: lsp.DidCloseTextDocumentParams) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Forget a document."""
        self._server.closed(params.text_document.uri)

    @lsp_method(lsp.WINDOW_WORK_DONE_PROGRESS_CANCEL)
    def lsp_work_done_progress_cancel(self, params: lsp.WorkDoneProgressCancelParams) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cancel the run that the token belongs to."""
        self._server.cancel_token(params.token)
