"""Open documents: their text as the editor has it, kept in lines so that a change costs what it touches.

Knows positions, not LSP's types. Also remembers which directives a document brought with it, since only what was typed
here is the user's own word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redline_agent.text import split_lines

from redline_server.positions import Encoding, place
from redline_server.trail import Trail, whole, within

DIRECTIVE = re.compile(
    r"^\s*(?:#+|//+|--+|;+|%+|/\*+|<!--|\"|\*)\s*redline:\s*(?P<text>\S.*?)\s*(?:\*/|-->)?\s*$", re.IGNORECASE
)


SAVED_BYTES_MAX = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Edit:
    """One content change: a range in LSP units, or None for the whole text."""

    range: tuple[int, int, int, int] | None
    text: str


@dataclass(slots=True)
class Document:
    """One open document."""

    uri: str
    path: Path
    version: int
    lines: list[str]
    language: str = ""
    brought: set[str] = field(default_factory=set[str])
    trail: Trail = field(default_factory=Trail)
    _text: str | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        if self._text is None:
            self._text = "".join(self.lines)
        return self._text

    def apply(self, edits: Sequence[Edit], version: int, encoding: Encoding) -> None:
        """Take the changes of one notification in."""
        for edit in edits:
            if edit.range is None:
                self.lines = split_lines(edit.text)
                self.trail.add(None)
            else:
                self._splice(edit.range, edit.text, encoding)
            if len(edit.text) > 1:  # what is typed comes a character at a time
                self._note_reloaded(edit)
        self.version = version
        self._text = None

    def _splice(self, where: tuple[int, int, int, int], text: str, encoding: Encoding) -> None:
        lines = self.lines
        first, start = place(lines, where[0], where[1], encoding)
        last, end = place(lines, where[2], where[3], encoding)
        last, end = max((last, end), (first, start))
        mended = first > 0 and lines[first - 1].endswith("\r")
        if not start and not end and not mended and (not text or text.endswith("\n")):
            new, last = split_lines(text), min(last, len(lines))
            lines[first:last] = new
            self.trail.add(whole(first, last, new))
            return
        at_end = _at_end(lines, first, start) and _at_end(lines, last, end) and (not text or text[0] in "\r\n")
        head = lines[first][:start] if first < len(lines) else ""
        tail = lines[last][end:] if last < len(lines) else ""
        # "\r" and "\n" that come to stand together become one line end.
        if not head and mended:
            first -= 1
            head = lines[first]
        stop = last + 1
        if not tail and stop < len(lines):
            tail = lines[stop]
            stop += 1
        joined = head + text + tail
        if joined.endswith("\r") and stop < len(lines):
            joined += lines[stop]
            stop += 1
        before, after = lines[first:stop], split_lines(joined)
        lines[first:stop] = after
        self.trail.add(within(first, before, after, at_end=at_end))

    def directives(self) -> list[tuple[int, str]]:
        """Each directive's line (from 0) and instruction."""
        return [(at, found["text"]) for at, line in enumerate(self.lines) if (found := directive_in(line))]

    def note_brought(self, lines: Sequence[str]) -> None:
        """Remember the directives of lines that the user did not type."""
        self.brought |= {found["text"] for line in lines if (found := directive_in(line))}

    def _note_reloaded(self, edit: Edit) -> None:
        """A directive that comes in more than a character at a time, and is in the saved file, came from the file."""
        first, size = (edit.range[0], edit.text.count("\n") + 2) if edit.range else (0, len(self.lines))
        touched = [line for line in self.lines[first : first + size] if directive_in(line)]
        if not touched:
            return
        try:
            with self.path.open("rb") as file:
                saved = set(file.read(SAVED_BYTES_MAX).decode("utf-8", "replace").splitlines())
        except OSError:
            return
        self.note_brought([line for line in touched if line.rstrip("\r\n") in saved])


def _at_end(lines: Sequence[str], line: int, column: int) -> bool:
    return line < len(lines) and column == len(lines[line].rstrip("\r\n")) < len(lines[line])


def directive_in(line: str) -> re.Match[str] | None:
    """Return the directive that a line holds, its instruction as group `text`."""
    return DIRECTIVE.match(line) if "redline:" in line.lower() else None


class Documents:
    """All open documents, by URI and by real path."""

    def __init__(self) -> None:
        self.encoding: Encoding = "utf-16"
        self._by_uri: dict[str, Document] = {}
        self._by_path: dict[str, Document] = {}

    def open(self, uri: str, path: Path, version: int, text: str, language: str) -> Document:
        """Take a document in; a second open replaces the first."""
        document = Document(uri, path, version, split_lines(text), language)
        document.brought = {words for _, words in document.directives()}
        self._by_uri[uri] = document
        self._by_path[str(path)] = document
        return document

    def change(self, uri: str, version: int, edits: Sequence[Edit]) -> Document | None:
        """Apply a change; None when the document was never opened."""
        document = self._by_uri.get(uri)
        if document is not None:
            document.apply(edits, version, self.encoding)
        return document

    def close(self, uri: str) -> Document | None:
        """Forget a document."""
        document = self._by_uri.pop(uri, None)
        if document is not None and self._by_path.get(str(document.path)) is document:
            del self._by_path[str(document.path)]
            for other in self._by_uri.values():  # the same file may be open by another name
                if other.path == document.path:
                    self._by_path[str(document.path)] = other
        return document

    def get(self, uri: str) -> Document | None:
        """Return the open document of a URI."""
        return self._by_uri.get(uri)

    def at(self, path: Path) -> Document | None:
        """Return the open document of a real path."""
        return self._by_path.get(str(path))

    def all(self) -> list[Document]:
        """Return the open documents."""
        return list(self._by_uri.values())


class FolderBuffers:
    """The open documents beneath one folder, as the agent's overlay needs them."""

    def __init__(self, documents: Documents, root: Path) -> None:
        self._documents = documents
        self._root = root

    def open_text(self, path: str) -> tuple[str, int] | None:
        """Text and version of the open document at a relative path."""
        document = self._documents.at(self._root / path)
        return (document.text, document.version) if document else None

    def open_paths(self) -> list[str]:
        """Relative paths of the open documents beneath the folder."""
        return [
            d.path.relative_to(self._root).as_posix()
            for d in self._documents.all()
            if d.path.is_relative_to(self._root)
        ]
