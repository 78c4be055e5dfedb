"""Accepting: sending hunks to the editor as edits, and believing only the text that it echoes.

Text edits go out with the version that they are for, in one edit where the client promises a transaction, else one a
file. File operations follow by themselves. What no echo confirms within ECHO_S_MAX is `unconfirmed`; its echo may still
come. Nothing is written to a file that the editor has open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lsprotocol import types as lsp
from redline_agent.errors import RedlineError
from redline_agent.text import plural, split_lines
from redline_agent.workspace.applying import Write
from redline_agent.workspace.filereview import OPEN, FileReview, Hunk, fits
from redline_agent.workspace.proposal import FileOperation
from redline_agent.workspace.textfile import to_line_end

from redline_server import convert
from redline_server.client import Client
from redline_server.documents import Documents
from redline_server.operations import ECHO_S_MAX, POLL_S, FileOperator, write
from redline_server.review import Entry, Reviews


@dataclass(slots=True)
class _Sent:
    """One file's part of an accept."""

    review: FileReview
    ids: list[str]
    edit: lsp.TextDocumentEdit


class Acceptor:
    """Carries accepted items out, one accept after the other."""

    def __init__(
        self, client: Client, documents: Documents, reviews: Reviews, changed: Callable[[Entry], None]
    ) -> None:
        self._client = client
        self._documents = documents
        self._reviews = reviews
        self._changed = changed
        self._files = FileOperator(client, documents, reviews, changed)
        self._one_at_a_time = asyncio.Lock()

    async def accept(self, entry: Entry, items: Iterable[Hunk | FileOperation]) -> None:
        """Apply items that `Reviews.select` gave; afterwards each has its new state."""
        items = list(items)
        async with self._one_at_a_time:
            self._reviews.refresh()
            hunks = [item for item in items if isinstance(item, Hunk) and item.state in OPEN]
            if hunks:
                await self._text(entry, hunks)
            for item in items:
                if isinstance(item, FileOperation) and item.state in OPEN:
                    await self._files.carry_out(entry, item)

    async def revert(self, entry: Entry, path: str, hunks: list[Hunk]) -> None:
        """Take accepted hunks of one file back; those whose text comes back as it was are `undone`."""
        async with self._one_at_a_time:
            self._reviews.refresh()
            review = entry.proposal.files[path]
            document = self._documents.at(entry.path(path))
            before = review.file
            hunks = [hunk for hunk in hunks if hunk.state == "accepted" and revertable(review, hunk)]
            if not hunks:
                self._client.show(f"Redline: {path} has changed since; nothing of it was reverted.", error=True)
                return
            if document is None and _bytes_now(entry, path) != before.encode():
                self._client.show(
                    f"Redline: {path} changed outside the editor; nothing of it was reverted.", error=True
                )
                return
            if document is not None and not self._client.able.apply_edit:
                self._client.show(
                    f"Redline: this editor cannot apply edits; close {path} and revert again.", error=True
                )
                return
            after = review.reverting([hunk.id for hunk in hunks])
            if self._client.able.apply_edit:
                edit = self._text_edit(entry, path, after)
                await self._client.apply(self._workspace_edit([_Sent(review, [], edit)]), "Redline: revert")
            else:
                try:
                    write(entry, {path: Write(before.encode(), before.with_text(after).encode())})
                except RedlineError as error:
                    self._client.show(f"Redline: {error}", error=True)
                    return
            until = time.monotonic() + ECHO_S_MAX
            while any(hunk.state == "accepted" for hunk in hunks) and time.monotonic() < until:
                await asyncio.sleep(POLL_S)
                self._reviews.refresh()
            left = [hunk.id for hunk in hunks if hunk.state == "accepted"]
            if left:
                self._client.show(f"Redline: the editor has not confirmed the revert of {', '.join(left)}.", error=True)
            self._touched(entry)

    async def revert_operation(self, entry: Entry, op: FileOperation) -> None:
        """Take an accepted file operation back by its opposite, where nothing has changed since."""
        async with self._one_at_a_time:
            await self._files.revert(entry, op)

    def look_again(self) -> None:
        """Say of file operations what has become of them."""
        self._files.look_again()

    # ---- text

    async def _text(self, entry: Entry, hunks: list[Hunk]) -> None:
        by_path: dict[str, list[str]] = {}
        for hunk in hunks:
            by_path.setdefault(hunk.path, []).append(hunk.id)
        if not self._client.able.apply_edit:
            self._on_disk(entry, by_path)
            return
        label = f"Redline: {plural(len(hunks), 'hunk')}"
        together = self._client.able.transactional and self._client.able.document_changes
        for paths in [list(by_path)] if together else [[path] for path in by_path]:
            # Prepared just before it is sent: the user may have typed while an earlier file was on its way.
            self._reviews.refresh()
            prepared = [
                self._prepare(entry, path, ids) for path in paths if (ids := _still_open(entry, path, by_path[path]))
            ]
            batch = [one for one in prepared if one.edit.edits]
            for path in (one.review.path for one in prepared if not one.edit.edits):
                self._client.show(f"Redline: the end of the last line of {path} comes when the editor saves it.")
            if batch:
                self._touched(entry)
                await self._send(entry, batch, label)

    def _prepare(self, entry: Entry, path: str, ids: list[str]) -> _Sent:
        review = entry.proposal.files[path]
        document = self._documents.at(entry.path(path))
        if document is not None:
            for hunk in review.hunks:
                if hunk.id in ids:
                    document.note_brought(hunk.new)
        if self._client.able.lines_with_ends:
            review.keep_last_end(ids)
        sent = _Sent(review, ids, self._text_edit(entry, path, review.sending(ids)))
        review.look()  # nothing may be left to send
        return sent

    def _text_edit(self, entry: Entry, path: str, after: str) -> lsp.TextDocumentEdit:
        """The edit from a file's text to another, for the version that the editor has of it."""
        document = self._documents.at(entry.path(path))
        uri, version = (document.uri, document.version) if document else (convert.uri_of(entry.path(path)), None)
        before = entry.proposal.files[path].file.text
        edits = convert.edits_between(before, after, self._documents.encoding)
        if document is None and self._client.able.lines_with_newlines:
            edits = [lsp.TextEdit(each.range, to_line_end(each.new_text, "\n")) for each in edits]
        if not before and document is None and self._client.able.lines_with_ends:
            edits = [lsp.TextEdit(lsp.Range(lsp.Position(0, 0), lsp.Position(1, 0)), after)]
        identifier = lsp.OptionalVersionedTextDocumentIdentifier(uri=uri, version=version)
        return lsp.TextDocumentEdit(text_document=identifier, edits=list(edits))

    async def _send(self, entry: Entry, batch: list[_Sent], label: str) -> None:
        answer = None
        try:
            answer = await self._client.apply(self._workspace_edit(batch), label)
            until = time.monotonic() + ECHO_S_MAX
            waiting = {ident for one in batch for ident in one.ids}
            while time.monotonic() < until and self._applying(entry, waiting):
                if answer is not None and not answer.applied and self._untouched(entry, batch):
                    break
                await asyncio.sleep(POLL_S)
                self._reviews.refresh()
        except BaseException:  # cancelled: the editor may have taken it or not
            for hunk in (each for one in batch for each in one.review.hunks if each.id in one.ids):
                hunk.state = "unconfirmed" if hunk.state == "applying" else hunk.state
            raise
        for one in batch:
            still = [hunk for hunk in one.review.hunks if hunk.id in one.ids and hunk.state == "applying"]
            if still and answer is not None and not answer.applied:
                one.review.not_applied(one.ids)
                reason = answer.failure_reason or "it gave no reason"
                self._client.show(f"Redline: the editor did not apply the change ({reason}).", error=True)
            else:
                for hunk in still:
                    hunk.state = "unconfirmed"
        self._touched(entry)

    def _workspace_edit(self, batch: list[_Sent]) -> lsp.WorkspaceEdit:
        if self._client.able.document_changes:
            return lsp.WorkspaceEdit(document_changes=[one.edit for one in batch])
        return lsp.WorkspaceEdit(changes={one.edit.text_document.uri: _plain(one.edit) for one in batch})

    def _applying(self, entry: Entry, ids: set[str]) -> bool:
        return any(hunk.id in ids and hunk.state == "applying" for hunk in entry.proposal.hunks)

    def _untouched(self, entry: Entry, batch: list[_Sent]) -> bool:
        return all(self._applying(entry, {ident}) for one in batch for ident in one.ids)

    def _on_disk(self, entry: Entry, by_path: dict[str, list[str]]) -> None:
        """A client that cannot apply edits: write the files that it does not have open."""
        opened = [path for path in by_path if self._documents.at(entry.path(path))]
        if opened:
            self._client.show(
                f"Redline: this editor cannot apply edits; close {opened[0]} and accept again.", error=True
            )
        writes: dict[str, Write] = {}
        for path, ids in by_path.items():
            if path not in opened:
                review = entry.proposal.files[path]
                writes[path] = Write(review.file.encode(), review.file.with_text(review.result(ids)).encode())
        try:
            write(entry, writes)
        except RedlineError as error:
            self._client.show(f"Redline: {error}", error=True)
            return
        for path in writes:
            review = entry.proposal.files[path]
            review.follow(review.sending(by_path[path]))
        self._touched(entry)

    def _touched(self, entry: Entry) -> None:
        entry.proposal.revision += 1
        self._changed(entry)


def _still_open(entry: Entry, path: str, ids: list[str]) -> list[str]:
    return [hunk.id for hunk in entry.proposal.files[path].hunks if hunk.id in ids and hunk.state in OPEN]


def _plain(edit: lsp.TextDocumentEdit) -> list[lsp.TextEdit]:
    return [one for one in edit.edits if isinstance(one, lsp.TextEdit)]


def _bytes_now(entry: Entry, path: str) -> bytes | None:
    try:
        return entry.resolver.read_bytes(path)
    except RedlineError:
        return None


def revertable(review: FileReview, hunk: Hunk) -> bool:
    """Whether an accepted hunk's text is still as it was accepted (a deletion's lines are still gone)."""
    if hunk.adrift is not None:
        return False
    lines = split_lines(review.file.text)
    if not fits(hunk.old, hunk.start, hunk.end, lines):
        return False
    if hunk.new:
        return tuple(lines[hunk.start : hunk.end]) == hunk.new
    size = len(hunk.old)
    return hunk.old not in (
        tuple(lines[hunk.start : hunk.start + size]),
        tuple(lines[max(0, hunk.start - size) : hunk.start]),
    )
