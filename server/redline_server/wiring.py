"""Which method of the protocol is answered by which function, and the commands that are advertised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lsprotocol import types as lsp

from redline_server import convert, moves
from redline_server.features import code_action, code_lens, hover

if TYPE_CHECKING:
    from redline_server.app import RedlineServer

COMMANDS = (
    "redline.run",
    "redline.runs",
    "redline.cancel",
    "redline.steer",
    "redline.answer",
    "redline.approve",
    "redline.trust",
    "redline.proposals",
    "redline.accept",
    "redline.reject",
    "redline.revise",
    "redline.revertRun",
    "redline.showDiff",
    "redline.sessions",
    "redline.resume",
    "redline.fork",
    "redline.compact",
    "redline.usage",
    "redline.setModel",
    "redline.doctor",
)


def register(server: RedlineServer) -> None:
    """Bind the protocol's methods to their functions."""
    feature = server.feature

    @feature(lsp.INITIALIZE)
    def _(params: lsp.InitializeParams) -> None:
        server.begin(params)

    @feature(lsp.INITIALIZED)
    async def _(_params: lsp.InitializedParams) -> None:
        await server.began()

    @feature(lsp.SHUTDOWN)
    async def _(_params: None) -> None:
        await server.finish()

    @feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def _(_params: lsp.DidOpenTextDocumentParams) -> None:
        """Advertise it; the protocol class does the work."""

    @feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def _(_params: lsp.DidSaveTextDocumentParams) -> None:
        server.refresh_reviews()

    @feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def _(_params: lsp.DidChangeConfigurationParams) -> None:
        await server.began()

    _register_files(server)
    _register_review(server)
    for name in COMMANDS:
        _register_command(server, name)


def _register_files(server: RedlineServer) -> None:
    """What happens to files outside the server's own doing."""
    feature = server.feature

    @feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def _(params: lsp.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            path = convert.path_of(change.uri)
            if path is not None and server.documents.at(path) is None:
                server.changed_elsewhere(path)
                if change.type == lsp.FileChangeType.Created:
                    moves.appeared(server, path)
        server.refresh_reviews()

    every = lsp.FileOperationFilter(pattern=lsp.FileOperationPattern(glob="**"), scheme="file")

    @feature(lsp.WORKSPACE_DID_RENAME_FILES, lsp.FileOperationRegistrationOptions(filters=[every]))
    def _(params: lsp.RenameFilesParams) -> None:
        for each in params.files:
            old, new = convert.path_of(each.old_uri), convert.path_of(each.new_uri)
            if old is not None and new is not None:
                moves.moved(server, old, new)


def _register_review(server: RedlineServer) -> None:
    """What is shown of pending hunks, and offered on them."""
    feature = server.feature
    kinds = [cast("lsp.CodeActionKind", kind) for kind in code_action.KINDS]

    @feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=kinds, resolve_provider=False))
    def _(params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
        return code_action.code_actions(server, params)

    @feature(lsp.TEXT_DOCUMENT_CODE_LENS, lsp.CodeLensOptions(resolve_provider=False))
    def _(params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        return code_lens.code_lenses(server, params)

    @feature(lsp.TEXT_DOCUMENT_HOVER)
    def _(params: lsp.HoverParams) -> lsp.Hover | None:
        return hover.hover(server, params)


def _register_command(server: RedlineServer, name: str) -> None:
    @server.command(name)
    async def _(*given: Any) -> Any:
        return await server.execute(name, given)
