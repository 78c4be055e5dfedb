"""The overlay: the files that a run sees. Disk <- open buffers <- the run's own edits.

Reads go through it, edits stay in it; nothing here writes to the disk. A file's base is pinned when the run
first edits it, so that the proposal is against the text that the edit was made for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from redline_agent.errors import FileRefused, RedlineError, StaleFile
from redline_agent.limits import FILE_BYTES_MAX, NEVER_WALKED
from redline_agent.safety.paths import Resolver
from redline_agent.safety.permits import Permit
from redline_agent.safety.requests import Access, text_digest
from redline_agent.workspace.hunks import Origin, merged, with_part, without_overlaps
from redline_agent.workspace.textfile import TextFile, check_encoding, decode, digest, new_kind, renamed
from redline_agent.workspace.walking import ignore_files_above, is_ignored, walk_disk


class Buffers(Protocol):
    """The editor's open documents, as the overlay needs them."""

    def open_text(self, path: str) -> tuple[str, int] | None:
        """Text and version of the open document at a relative path; None when it is not open."""
        ...

    def open_paths(self) -> list[str]:
        """Relative paths of the open documents of this workspace folder."""
        ...


class NoBuffers:
    """No editor: the headless case."""

    def open_text(self, path: str) -> tuple[str, int] | None:  # noqa: ARG002
        """Nothing is open."""
        return None

    def open_paths(self) -> list[str]:
        """No document is open."""
        return []


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the overlay shows it; `version` is the digest of the text."""

    path: str
    file: TextFile
    version: str
    source: Literal["disk", "buffer", "overlay"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One step in a file's history inside the run."""

    origin: Origin
    text: str | None


@dataclass(slots=True)
class Touched:
    """A file that the run edited: its pinned base (None: it did not exist) and the steps since."""

    base: TextFile | None
    kind: TextFile
    edits: list[Edit] = field(default_factory=list[Edit])
    moved_from: str = ""
    moved_to: str = ""
    pinned: bool = False
    """Whether the base stays as it is, whatever the file becomes."""
    beneath: str | None = None
    """What the file had become when that was last taken in."""

    @property
    def text(self) -> str | None:
        """Text now; None when the run deleted it."""
        return self.edits[-1].text if self.edits else (self.base.text if self.base else None)


class Overlay:
    """One run's view of one workspace folder."""

    def __init__(self, resolver: Resolver, buffers: Buffers | None = None) -> None:
        self.resolver = resolver
        self.buffers = buffers or NoBuffers()
        self.touched: dict[str, Touched] = {}
        self._seen: dict[str, str] = {}

    # ---- reading

    def find(self, path: str) -> Seen | None:
        """Return the file at a resolved path, or None; raises FileRefused for what is not text."""
        touched = self.touched.get(path)
        if touched is not None:
            self._follow(path, touched)
            text = touched.text
            return None if text is None else Seen(path, touched.kind.with_text(text), digest(text), "overlay")
        return self._below(path)

    def _follow(self, path: str, touched: Touched) -> None:
        """Lay the run's edits over what the file has become; of lines that both changed the run keeps its own.

        What the user accepted meanwhile of what the run began with is in the file then, and no change any more.
        """
        texts = [edit.text for edit in touched.edits]
        if touched.pinned or touched.moved_to or touched.moved_from or None in texts:
            return
        try:
            below = self._below(path)
        except RedlineError:
            return
        if below is None or (touched.base is not None and below.file.text in (touched.base.text, touched.beneath)):
            return
        touched.beneath = below.file.text
        kind = replace(below.file, executable=touched.kind.executable)
        if touched.base is None:
            if below.file.text in texts:
                del touched.edits[: texts.index(below.file.text) + 1]
                touched.base, touched.kind = below.file, kind
            return
        ours = [text or "" for text in texts]
        base = with_part(touched.base.text, ours, below.file.text)
        for now in (below.file.text, without_overlaps(base, ours, below.file.text)):
            moved = [merged(base, text, now) for text in ours]
            if None not in moved:
                touched.base, touched.kind = below.file.with_text(now), kind
                touched.edits = [Edit(edit.origin, text) for edit, text in zip(touched.edits, moved, strict=True)]
                return

    def read(self, path: str) -> Seen:
        """Return the file, and remember that the run has seen this version; raises FileRefused when missing."""
        seen = self.find(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.", hint="Use `list` or `search` to find it.")
        self._seen[path] = seen.version
        return seen

    def versions_seen(self) -> dict[str, str]:
        """Return the version of each file that the run has seen."""
        return dict(self._seen)

    def have_seen(self, versions: dict[str, str]) -> None:
        """Remember versions that the run saw before it was cut off; "" is one that it forgot."""
        self._seen.update(versions)
        self._seen = {path: version for path, version in self._seen.items() if version}

    def _below(self, path: str) -> Seen | None:
        data = self.resolver.read_bytes(path)
        opened = self.buffers.open_text(path)
        if opened is not None:
            kind = TextFile("") if data is None else replace(_kind(data, path), executable=self._executable(path))
            text = opened[0]
            return Seen(path, kind.with_text(text), digest(text), "buffer")
        if data is None:
            return None
        file = replace(decode(data, path), executable=self._executable(path))
        return Seen(path, file, digest(file.text), "disk")

    def _executable(self, path: str) -> bool:
        try:
            return bool(os.lstat(self.resolver.root / path).st_mode & stat.S_IXUSR)
        except OSError:
            return False

    def base_of(self, path: str) -> tuple[str, TextFile] | None:
        """Return what a touched file was before the run, and under which path; None when it is new."""
        touched = self.touched[path]
        if touched.base is not None or not touched.moved_from:
            return (path, touched.base) if touched.base is not None else None
        source = self.touched.get(touched.moved_from)
        return (touched.moved_from, source.base) if source is not None and source.base is not None else None

    def is_large(self, path: str) -> bool:
        """Whether a file on the disk is above what is worked on whole."""
        try:
            return path not in self.touched and (self.resolver.root / path).stat().st_size > FILE_BYTES_MAX
        except OSError:
            return False

    def exists(self, path: str) -> bool:
        """Whether a file is there, text or not."""
        touched = self.touched.get(path)
        if touched is not None:
            return touched.text is not None
        return self.buffers.open_text(path) is not None or (self.resolver.root / path).is_file()

    # ---- editing

    def check_fresh(self, path: str) -> Seen | None:
        """Return the file; raises StaleFile when it is not the version that the run saw last."""
        seen = self.find(path)
        wanted = self._seen.get(path)
        if seen is not None and wanted is not None and wanted != seen.version:
            raise StaleFile(
                f"{path} changed since it was read (then {wanted}, now {seen.version}).",
                hint="Read it again.",
            )
        return seen

    def is_stale(self, path: str) -> bool:
        """Whether the file is not the version that the run saw last."""
        seen, wanted = self.find(path), self._seen.get(path)
        return seen is not None and wanted is not None and wanted != seen.version

    def write(
        self,
        path: str,
        text: str,
        origin: Origin,
        permit: Permit,
        *,
        region: bool = False,
        executable: bool = False,
        kind: TextFile | None = None,
    ) -> Seen:
        """Give the file a new text, creating it when there is none; raises PermitRefused, FileRefused, StaleFile.

        `region`: only lines that the run knows are changed, so the rest may have moved on; it is still to be read.
        `executable` and `kind`: a file that is new gets that mode bit, and that encoding.
        """
        permit.spend(Access("write", path, content=text_digest(text)))
        if (self.resolver.root / path).is_dir():
            raise FileRefused(f"{path} is a folder.")
        parts = path.split("/")
        if above := next((each for n in range(1, len(parts)) if self.exists(each := "/".join(parts[:n]))), ""):
            raise FileRefused(f"{above} is a file, so nothing can be beneath it.")
        stale = region and self.is_stale(path)
        seen = self.find(path) if region else self.check_fresh(path)
        touched = self._touch(path, seen)
        if touched.base is None and not touched.moved_from:
            touched.kind = replace(kind or new_kind(path, text), executable=executable or touched.kind.executable)
        made = touched.kind.with_text(text)
        check_encoding(path, made)
        if seen is None or seen.file.text != text:
            touched.edits.append(Edit(origin, text))
        if not stale:
            self._seen[path] = digest(text)
        return Seen(path, made, digest(text), "overlay")

    def set_executable(self, path: str, executable: bool, origin: Origin, permit: Permit) -> None:
        """Make a file a program, or none; raises PermitRefused, FileRefused when there is no such file."""
        seen = self.find(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.")
        permit.spend(Access("write", path, content=text_digest(seen.file.text)))
        touched = self._touch(path, seen)
        touched.kind = replace(touched.kind, executable=executable)
        touched.edits.append(Edit(origin, seen.file.text))

    def delete(self, path: str, origin: Origin, permit: Permit) -> None:
        """Delete a file in the overlay; raises PermitRefused, FileRefused when there is none."""
        permit.spend(Access("delete", path))
        seen = self.check_fresh(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.")
        self._touch(path, seen).edits.append(Edit(origin, None))
        self._seen.pop(path, None)

    def move(self, path: str, to: str, origin: Origin, permit: Permit, permit_to: Permit) -> None:
        """Move a file in the overlay; raises PermitRefused, FileRefused when it is missing or the new name is taken."""
        permit.spend(Access("move", path))
        permit_to.spend(Access("move", to))
        seen = self.check_fresh(path)
        if seen is None:
            raise FileRefused(f"There is no file {path}.")
        if self.exists(to) or (self.resolver.root / to).is_dir():
            raise FileRefused(f"{to} exists already.", hint="Move it to another name.")
        source = self._touch(path, seen)
        target = self._touch(to, self.find(to))
        target.kind = seen.file
        first = source.moved_from or (path if source.base is not None else "")
        source.edits.append(Edit(origin, None))
        target.edits.append(Edit(origin, seen.file.text))
        target.moved_from, source.moved_to, source.moved_from = first, to, ""
        if first and first != path:
            self.touched[first].moved_to = to
        self._seen[to] = seen.version

    def moved_below(self, old: str, new: str) -> None:
        """Have edits go along to the name that the user gave a file, or a folder with all that is in it."""
        names = {path: renamed(path, old, new) for path in self.touched}
        if any(to != path and to in self.touched for path, to in names.items()):
            return  # the run has something there itself
        self.touched = {names[path]: touched for path, touched in self.touched.items()}
        for touched in self.touched.values():
            touched.moved_from, touched.moved_to = (
                renamed(each, old, new) for each in (touched.moved_from, touched.moved_to)
            )
        self._seen = {renamed(path, old, new): version for path, version in self._seen.items()}

    def _touch(self, path: str, seen: Seen | None) -> Touched:
        if path not in self.touched:
            base = None if seen is None else seen.file
            self.touched[path] = Touched(base, base or TextFile(""))
        return self.touched[path]

    @contextmanager
    def all_or_nothing(self) -> Generator[None]:
        """Take back every edit of the block when it raises."""
        saved = {
            path: Touched(t.base, t.kind, list(t.edits), t.moved_from, t.moved_to, t.pinned)
            for path, t in self.touched.items()
        }
        seen = dict(self._seen)
        try:
            yield
        except BaseException:
            self.touched, self._seen = saved, seen
            raise

    # ---- listing

    def walk(self, folder: str = ".") -> list[str]:
        """Files beneath a folder, sorted, without ignored ones; at most WALK_FILES_MAX."""
        found = set(walk_disk(self.resolver, folder))
        prefix = "" if folder == "." else folder + "/"
        for path in self.buffers.open_paths():  # one that was never saved is a file too
            if path.startswith(prefix) and path not in found and not (self.resolver.root / path).exists():
                found |= {path} if not self.ignores(path) else set()
        for path, touched in self.touched.items():
            if touched.text is None:
                found.discard(path)
            elif path.startswith(prefix) or path == folder:
                found.add(path)
        return sorted(found)

    def holds_folder(self, folder: str) -> bool:
        """Whether the run made a file beneath a folder that the disk does not have."""
        return any(path.startswith(folder + "/") and touched.text is not None for path, touched in self.touched.items())

    def ignores(self, path: str) -> bool:
        """Whether a file is version control's, or one that .gitignore (or every tool) leaves out."""
        folders = path.split("/")[:-1]
        if any(self.ignores_folder("/".join(folders[: depth + 1])) for depth in range(len(folders))):
            return True
        return is_ignored(path, ignore_files_above(self.resolver, path))

    def ignores_folder(self, folder: str) -> bool:
        """Whether a folder is left out when files are listed."""
        return folder.rsplit("/", 1)[-1] in NEVER_WALKED or is_ignored(
            folder + "/", ignore_files_above(self.resolver, folder)
        )

    def texts_above_disk(self) -> dict[str, str | None]:
        """Return what may differ from the disk, for a helper process: open and edited texts, None when deleted."""
        texts: dict[str, str | None] = {}
        for path in self.buffers.open_paths():
            opened = self.buffers.open_text(path)
            if opened is not None:
                texts[path] = opened[0]
        return texts | {path: touched.text for path, touched in self.touched.items()}


def _kind(data: bytes, path: str) -> TextFile:
    try:
        return decode(data, path)
    except FileRefused:
        return TextFile("")
