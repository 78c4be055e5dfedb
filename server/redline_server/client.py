"""The editor at the other end: what it can do, and every request to it, each gated on a capability and limited in time.

Capabilities are what the client announced, corrected by the table of quirks: named clients that say less, or more, than
they do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

T = TypeVar("T")
logger = logging.getLogger(__name__)

REQUEST_S_MAX = 10.0
APPLY_S_MAX = 120.0
"""An editor may ask the user before it applies an edit."""

ASK_S_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Quirk:
    """What a named client really does; None leaves what it announced."""

    client: str
    document_changes: bool | None = None
    request_delay_s: float = 0.0
    lines_with_ends: bool = False
    lines_with_newlines: bool = False
    watches: bool = False
    """Whether it is asked to tell of files that change outside. Not by what it announces: clients say that they can be
    asked, and raise when they are (pytest-lsp), or watch each folder by a handle and run out of them (Emacs).
    """


QUIRKS: tuple[Quirk, ...] = (
    # Applies documentChanges without announcing it. Its buffers are lines with ends: an empty one has one line, which
    # an edit that ends below it takes along; and whether the last line has an end is a matter of saving, not of edits.
    Quirk("Neovim", document_changes=True, lines_with_ends=True),
    # Emacs 28's eglot gives no name; its reader leaves what comes in one piece with an answer lying.
    # Emacs has newlines in its buffers whatever the disk has, and takes what it is sent as it is.
    Quirk("", request_delay_s=0.2, lines_with_newlines=True),
    Quirk("redline.el", request_delay_s=0.05, lines_with_newlines=True),
    Quirk("Eglot", lines_with_newlines=True),
    Quirk("helix", watches=True),
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the client can do, quirks applied."""

    name: str
    apply_edit: bool
    document_changes: bool
    transactional: bool
    rename: bool
    delete: bool
    progress: bool
    show_document: bool
    ask: bool
    lenses: bool
    lens_refresh: bool
    configuration: bool
    markdown_hover: bool
    action_literals: bool
    disabled_actions: bool
    action_tags: bool
    request_delay_s: float
    lines_with_ends: bool
    lines_with_newlines: bool
    watches: bool


def abilities(params: lsp.InitializeParams) -> Abilities:
    """Return what the client announced, corrected by QUIRKS."""
    caps = params.capabilities
    workspace = caps.workspace or lsp.WorkspaceClientCapabilities()
    text = caps.text_document or lsp.TextDocumentClientCapabilities()
    window = caps.window or lsp.WindowClientCapabilities()
    edit = workspace.workspace_edit or lsp.WorkspaceEditClientCapabilities()
    action = text.code_action or lsp.CodeActionClientCapabilities()
    name = params.client_info.name if params.client_info else ""
    quirk = next((q for q in QUIRKS if q.client == name), Quirk(name))
    watched = workspace.did_change_watched_files
    operations = edit.resource_operations or []
    handling = edit.failure_handling
    formats = (text.hover.content_format if text.hover else None) or []
    return Abilities(
        name=name,
        apply_edit=bool(workspace.apply_edit),
        document_changes=bool(edit.document_changes) if quirk.document_changes is None else quirk.document_changes,
        transactional=handling
        in (lsp.FailureHandlingKind.Transactional, lsp.FailureHandlingKind.TextOnlyTransactional),
        rename=lsp.ResourceOperationKind.Rename in operations,
        delete=lsp.ResourceOperationKind.Delete in operations,
        progress=bool(window.work_done_progress),
        show_document=bool(window.show_document and window.show_document.support),
        ask=window.show_message is not None,
        lenses=text.code_lens is not None,
        lens_refresh=bool(workspace.code_lens and workspace.code_lens.refresh_support),
        configuration=bool(workspace.configuration),
        markdown_hover=lsp.MarkupKind.Markdown in formats,
        action_literals=action.code_action_literal_support is not None,
        disabled_actions=bool(action.disabled_support),
        action_tags=action.tag_support is not None,
        request_delay_s=quirk.request_delay_s,
        lines_with_ends=quirk.lines_with_ends,
        lines_with_newlines=quirk.lines_with_newlines,
        watches=quirk.watches and bool(watched and watched.dynamic_registration),
    )


class Client:
    """Requests and notifications to the editor. A request that it cannot take, refuses or never answers gives None."""

    def __init__(self, server: LanguageServer, able: Abilities, *, own: bool) -> None:
        self.able = able
        self.own = own
        self._server = server
        self._watching = False

    async def _ask(self, request: Callable[[], Awaitable[T]], limit_s: float, what: str) -> T | None:
        if self.able.request_delay_s:
            await asyncio.sleep(self.able.request_delay_s)
        try:
            return await asyncio.wait_for(request(), limit_s)
        except TimeoutError:
            logger.warning("The client did not answer %s within %g s.", what, limit_s)
        except JsonRpcException as error:
            logger.warning("The client refused %s: %s", what, error)
        return None

    async def apply(self, edit: lsp.WorkspaceEdit, label: str) -> lsp.ApplyWorkspaceEditResult | None:
        """Ask for an edit; the answer's `applied` is never trusted."""
        if not self.able.apply_edit:
            return None
        params = lsp.ApplyWorkspaceEditParams(edit=edit, label=label)
        return await self._ask(
            lambda: self._server.workspace_apply_edit_async(params), APPLY_S_MAX, "workspace/applyEdit"
        )

    async def create_progress(self, token: str) -> bool:
        """Create a progress of the server's own; False when there can be none."""
        if not self.able.progress:
            return False
        params = lsp.WorkDoneProgressCreateParams(token=token)
        server = self._server
        done = await self._ask(
            lambda: _answered(server.window_work_done_progress_create_async(params)),
            REQUEST_S_MAX,
            "window/workDoneProgress/create",
        )
        return bool(done)

    def progress(
        self,
        token: str,
        value: lsp.WorkDoneProgressBegin | lsp.WorkDoneProgressReport | lsp.WorkDoneProgressEnd,
    ) -> None:
        """Send one step of a progress that was created."""
        self._server.protocol.notify(lsp.PROGRESS, lsp.ProgressParams(token=token, value=value))

    async def show_document(self, uri: str, *, focus: bool = True) -> bool:
        """Show a file; False when the client cannot."""
        if not self.able.show_document:
            return False
        params = lsp.ShowDocumentParams(uri=uri, take_focus=focus)
        result = await self._ask(
            lambda: self._server.window_show_document_async(params), REQUEST_S_MAX, "window/showDocument"
        )
        return bool(result and result.success)

    async def choose(self, message: str, options: list[str]) -> str | None:
        """Ask the user to choose; the safe option is to be first. "" when the user turned away, None when it cannot
        ask.
        """
        if not self.able.ask:
            return None
        actions = [lsp.MessageActionItem(title=option) for option in options]
        params = lsp.ShowMessageRequestParams(type=lsp.MessageType.Warning, message=_inert(message), actions=actions)

        async def asked() -> str:
            answer = await self._server.window_show_message_request_async(params)
            return answer.title if answer else ""

        return await self._ask(asked, ASK_S_MAX, "window/showMessageRequest")

    async def permission(self, params: dict[str, Any]) -> str | None:
        """Ask a client of ours for leave; "" when the user turned away, None when it cannot ask."""
        if not self.own:
            return None

        async def asked() -> str:
            answer: Any = await self._server.protocol.send_request_async("redline/permission", params)
            decision = answer.get("decision") if isinstance(answer, dict) else getattr(answer, "decision", "")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            return str(decision or "")  # pyright: ignore[reportUnknownArgumentType]

        return await self._ask(asked, ASK_S_MAX, "redline/permission")

    async def refresh_lenses(self) -> None:
        """Ask for the code lenses to be asked for again."""
        if self.able.lens_refresh:
            await self._ask(
                lambda: _answered(self._server.workspace_code_lens_refresh_async(None)),
                REQUEST_S_MAX,
                "codeLens/refresh",
            )

    async def watch(self) -> None:
        """Ask to be told of files that change outside the editor, once."""
        if not self.able.watches or self._watching:
            return
        self._watching = True
        options = lsp.DidChangeWatchedFilesRegistrationOptions([lsp.FileSystemWatcher(glob_pattern="**/*")])
        what = lsp.Registration("redline-files", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
        await self._ask(
            lambda: _answered(self._server.client_register_capability_async(lsp.RegistrationParams([what]))),
            REQUEST_S_MAX,
            "client/registerCapability",
        )

    async def configuration(self) -> Any:
        """Return the client's `redline` section, None when there is none."""
        if not self.able.configuration:
            return None
        params = lsp.ConfigurationParams(items=[lsp.ConfigurationItem(section="redline")])
        answer = await self._ask(
            lambda: self._server.workspace_configuration_async(params), REQUEST_S_MAX, "workspace/configuration"
        )
        return answer[0] if answer else None

    def show(self, message: str, *, error: bool = False) -> None:
        """Show one message to the user."""
        kind = lsp.MessageType.Error if error else lsp.MessageType.Info
        self._server.window_show_message(lsp.ShowMessageParams(type=kind, message=_inert(message)))

    def publish(self, uri: str, version: int | None, diagnostics: list[lsp.Diagnostic]) -> None:
        """Publish a file's diagnostics, all of them."""
        self._server.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri=uri, version=version, diagnostics=diagnostics)
        )

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a `redline/...` notification, to clients that asked for them."""
        if self.own:
            self._server.protocol.notify(method, params)


def _inert(message: str) -> str:
    """Part what an editor would make a link of: VS Code's notifications run `[text](command:...)`."""
    return message.replace("](", "] (")


async def _answered(request: Awaitable[Any]) -> bool:
    await request
    return True
