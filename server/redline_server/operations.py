"""File operations that were accepted: by the editor where it can, else by us; checked before, and looked at after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from lsprotocol import types as lsp
from redline_agent.errors import RedlineError, StaleFile
from redline_agent.workspace.applying import (
    Write,
    accepted,
    is_executable,
    move_file,
    prune,
    set_executable,
    taken_back,
    write_files,
)
from redline_agent.workspace.proposal import FileOperation
from redline_agent.workspace.textfile import decode, to_line_end

from redline_server import convert
from redline_server.client import Client
from redline_server.documents import Document, Documents
from redline_server.review import Entry, Reviews

ECHO_S_MAX = 2.0
"""How long an edit's echo, or a file operation's effect, is waited for."""
POLL_S = 0.05


class FileOperator:
    """Carries file operations out, and looks after them."""

    def __init__(
        self, client: Client, documents: Documents, reviews: Reviews, changed: Callable[[Entry], None]
    ) -> None:
        self._client = client
        self._documents = documents
        self._reviews = reviews
        self._changed = changed

    async def carry_out(self, entry: Entry, op: FileOperation) -> None:
        """Carry one out, where nothing of the user's is in its way; afterwards it has its new state."""
        op.state = "applying"
        self._touched(entry)
        try:
            self._check(entry, op)
            entry.resolver.place(op.path)
            if op.new_path:
                entry.resolver.place(op.new_path)
            if self._by_editor(op):
                await self._by_client(entry, op)
            else:
                self._operation_on_disk(entry, op)
                op.state = "accepted"
        except (RedlineError, OSError) as error:
            op.state = "pending"
            self._client.show(f"Redline: {error}", error=True)
        if op.kind == "rename" and op.state == "accepted":
            entry.proposal.renamed(op)
        if op.kind in ("delete", "rename") and op.state == "accepted":
            prune(entry.resolver, op.path)
        self._touched(entry)

    def _by_editor(self, op: FileOperation) -> bool:
        """Whether the editor carries a file operation out."""
        able = {
            "create": False,  # until it saves, an editor has the text in a buffer alone, and an empty file on the disk
            "delete": self._client.able.delete,
            "rename": self._client.able.rename,
            "mode": False,
        }
        return self._client.able.apply_edit and self._client.able.document_changes and able[op.kind]

    def _check(self, entry: Entry, op: FileOperation) -> None:
        """Raise StaleFile when a file operation must not be carried out: the user made or changed something there."""
        here, document = entry.path(op.path), self._documents.at(entry.path(op.path))
        data = entry.resolver.read_bytes(op.path)
        new = op.path if op.kind == "create" else op.new_path
        if new and entry.path(new).exists():
            raise StaleFile(f"{new} exists by now, so it is not written over.", hint="Move it away, or reject this.")
        opened = self._documents.at(entry.path(new)) if new else None
        whole = op.kind == "create" and op.file is not None and _same(opened, op.file.text)
        if opened and not whole:  # a buffer that has that very text may come back to a file (a deletion taken back)
            raise StaleFile(
                f"{new} is open in the editor, though no such file is there.", hint="Close it, and try again."
            )
        if op.kind == "create" or (op.file is None and op.kind != "rename"):
            return
        if data is None:
            raise StaleFile(f"{here.name} is gone.")
        if op.kind == "mode":
            return
        same = op.file is not None and data == op.file.encode() and _same(document, op.file.text)
        if op.kind == "delete" and not same:
            raise StaleFile(f"{op.path} has changed since, so it is not deleted.", hint="Ask again, or reject this.")
        unsaved = not _same(document, decode(data, op.path).text)
        if op.kind == "rename" and unsaved and not self._by_editor(op):
            raise StaleFile(f"{op.path} has unsaved changes, so it is not renamed.", hint="Save it, and try again.")

    async def revert(self, entry: Entry, op: FileOperation) -> None:
        """Take an accepted file operation back by its opposite, where nothing has changed since."""
        match op.kind:
            case "create":
                back = FileOperation(op.id, "delete", op.path, op.reason, op.origin, file=op.file)
            case "delete":
                back = FileOperation(op.id, "create", op.path, op.reason, op.origin, file=op.file, mode=op.mode)
            case "rename":
                back = FileOperation(op.id, "rename", op.new_path, op.reason, op.origin, new_path=op.path)
            case "mode":
                file = replace(op.file, executable=not op.executable) if op.file else None
                back = FileOperation(op.id, "mode", op.path, op.reason, op.origin, file=file)
        await self.carry_out(entry, back)
        if back.state == "accepted":
            op.state = "undone"
            self._touched(entry)

    def _operation_on_disk(self, entry: Entry, op: FileOperation) -> None:
        match op.kind:
            case "create":
                data = op.file.encode() if op.file else b""
                write(entry, {op.path: Write(None, data, mode=op.mode, executable=op.executable)})
            case "delete":
                write(entry, {op.path: Write(entry.resolver.read_bytes(op.path), None)})
            case "rename":
                move_file(entry.resolver, op.path, op.new_path)
            case "mode":
                set_executable(entry.resolver, op.path, op.executable)

    async def _by_client(self, entry: Entry, op: FileOperation) -> None:
        uri = convert.uri_of(entry.path(op.path))
        changes: list[lsp.TextDocumentEdit | lsp.CreateFile | lsp.RenameFile | lsp.DeleteFile]
        match op.kind:
            case "delete":
                changes = [lsp.DeleteFile(uri=uri)]
            case "rename":
                changes = [lsp.RenameFile(old_uri=uri, new_uri=convert.uri_of(entry.path(op.new_path)))]
            case "create" | "mode":
                changes = []  # never comes here
        answer = await self._client.apply(lsp.WorkspaceEdit(document_changes=changes), f"Redline: {op.told}")
        refused = answer is not None and not answer.applied
        until = time.monotonic() + (POLL_S if refused else ECHO_S_MAX)
        while not (done := self._operation_done(entry, op)) and time.monotonic() < until:  # noqa: ASYNC110  the disk has no event
            await asyncio.sleep(POLL_S)
        op.state = "accepted" if done else "pending" if refused else "unconfirmed"
        if refused and not done and answer is not None:
            reason = answer.failure_reason or "it gave no reason"
            self._client.show(f"Redline: the editor did not {op.told} ({reason}).", error=True)

    def _operation_done(self, entry: Entry, op: FileOperation) -> bool:
        here = entry.path(op.path)
        match op.kind:
            case "create":
                wanted = op.file.text if op.file else ""
                document = self._documents.at(here)
                if document is not None:
                    return document.text == wanted
                return here.is_file() and here.read_bytes() == (op.file.encode() if op.file else b"")
            case "delete":
                return not here.exists()
            case "rename":
                return not here.exists() and entry.path(op.new_path).exists()
            case "mode":
                return is_executable(entry.resolver, op.path) == op.executable

    def look_again(self) -> None:
        """Say of what was not confirmed whether it has been carried out by now, and of the rest whether it was taken
        back, by the editor's undo or otherwise.
        """
        for entry in self._reviews.entries.values():
            for op in entry.proposal.operations:
                if op.state == "accepted" and self._taken_back(entry, op):
                    op.state = "undone"
                    if op.kind == "rename":
                        entry.proposal.renamed(replace(op, path=op.new_path, new_path=op.path))
                    self._touched(entry)
                if op.state == "unconfirmed" and self._operation_done(entry, op):
                    op.state = "accepted"
                    if op.kind == "rename":
                        entry.proposal.renamed(op)
                    self._touched(entry)

    def _taken_back(self, entry: Entry, op: FileOperation) -> bool:
        if op.kind == "create" and self._documents.at(entry.path(op.path)):
            return False
        before = op.file.encode() if op.file else b""
        try:
            return taken_back(op.kind, entry.resolver, op.path, op.new_path, before, executable=op.executable)
        except RedlineError:
            return False

    def _touched(self, entry: Entry) -> None:
        entry.proposal.revision += 1
        self._changed(entry)


def write(entry: Entry, writes: dict[str, Write]) -> None:
    """Write accepted texts to the disk."""
    write_files(entry.resolver, writes, accepted(entry.resolver, writes))


def _same(document: Document | None, text: str) -> bool:
    """Whether an open document has a text; Emacs has other line ends in its buffers than the disk."""
    return document is None or to_line_end(document.text, "\n") == to_line_end(text, "\n")
