"""The overlay as a folder for a command, and what the command wrote as texts: laying out and harvesting.

With an overlay mount only what differs from the disk is laid out, in the mount's upper folder; else the workspace is
copied.
Everything is done beneath handles of folders and follows no link, because a command may have planted some.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from redline_agent.errors import ToolError
from redline_agent.limits import FILE_BYTES_MAX
from redline_agent.safety.beneath import (
    clear_the_way,
    folder_beneath,
    put,
    read_beneath,
    remove,
    take_away,
)
from redline_agent.safety.sandbox.sight import LINKED, is_real_folder

COPY_BYTES_MAX = 2 * 2**30
COPY_FILES_MAX = 100_000
DEPTH_MAX = 100
"""Folders below this depth are not looked into: neither copied nor taken."""
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
_CACHE_TAG = "CACHEDIR.TAG"
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".jj"})
_FICLONE = 0x40049409

Signature = tuple[int, int, int]
Skip = Callable[[str], bool] | None
"""Which folders are not looked into."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """One change that a command made: a file's new bytes, or its removal. `why_not` says why its bytes cannot be
    had.
    """

    path: str
    kind: Literal["file", "deleted", "replaced-folder"]
    data: bytes = b""
    why_not: str = ""
    executable: bool = False


# ---- the upper folder of an overlay mount


def changes_in_upper(upper: Path, skip: Skip, known: dict[str, Signature]) -> Iterator[Wrote]:
    """Every entry of the upper folder whose signature is not the known one; takes the new ones into `known`."""
    for here, folders, files, handle in os.fwalk(upper, follow_symlinks=False):
        base = os.path.relpath(here, upper).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        kept: list[str] = []
        if _CACHE_TAG in files:  # the folder says itself that it is a cache
            folders.clear()
            continue
        if folders and base.count("/") >= DEPTH_MAX:
            folders.clear()
            yield Wrote(base, "file", why_not=f"it is nested more than {DEPTH_MAX} folders deep")
        for name in sorted(folders):
            if name in _VERSION_CONTROL or _skips(skip, prefix + name):
                continue
            status = os.lstat(name, dir_fd=handle)
            if stat.S_ISDIR(status.st_mode):
                kept.append(name)
                if _opaque(f"{here}/{name}") and _is_new(prefix + name + "/", status, known):
                    yield Wrote(prefix + name, "replaced-folder")
            elif _is_new(prefix + name, status, known):
                yield _file(upper, prefix + name, status)  # a link to a folder
        folders[:] = kept
        for name in sorted(files):
            path = prefix + name
            status = os.lstat(name, dir_fd=handle)
            if not _is_new(path, status, known):
                continue
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                yield Wrote(path, "deleted")
            else:
                yield _file(upper, path, status)


def _skips(skip: Skip, path: str) -> bool:
    return skip is not None and skip(path)


def _is_new(path: str, status: os.stat_result, known: dict[str, Signature]) -> bool:
    signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    if known.get(path) == signature:
        return False
    known[path] = signature
    return True


def _file(root: Path, path: str, status: os.stat_result) -> Wrote:
    if stat.S_ISLNK(status.st_mode):
        return Wrote(path, "file", why_not="it is a link")
    if not stat.S_ISREG(status.st_mode):
        return Wrote(path, "file", why_not="it is not a regular file")
    if status.st_size > FILE_BYTES_MAX:
        return Wrote(path, "file", why_not=f"it has more than {FILE_BYTES_MAX:,} bytes")
    data = read_beneath(root, path)
    if data is None:
        return Wrote(path, "file", why_not="it cannot be read")
    return Wrote(path, "file", data, executable=bool(status.st_mode & stat.S_IXUSR))


def _opaque(path: str) -> bool:
    if not hasattr(os, "getxattr"):
        return False
    for name in _OPAQUE:
        with suppress(OSError):
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
    return False


# ---- a copy


@dataclass(slots=True)
class Copy:
    """A copy of the workspace, and the signatures of its files as they were copied or last looked at.

    `large`: how the large folders (`LINKED`) are there: as links, for want of a mount; `copied`, where nothing keeps a
    command from writing through a link; `bound` by the sandbox.
    """

    root: Path
    copy: Path
    known: dict[str, Signature] = field(default_factory=dict[str, Signature])
    sources: dict[str, Signature] = field(default_factory=dict[str, Signature])
    large: Literal["linked", "copied", "bound"] = "linked"

    def bring_up(self, hidden: frozenset[str], laid: frozenset[str] = frozenset()) -> None:
        """Copy what is new or changed below since the last time, and take away what is gone there. Raises ToolError.

        Hidden files are left out, and what the overlay has `laid` over the copy stays as it is.
        """
        self.copy.mkdir(exist_ok=True, mode=0o700)
        size = 0
        there: set[str] = set()
        for folder, entries in groupby(
            _tree(self.root, hidden, large=self.large == "copied"), key=lambda entry: entry[0].rpartition("/")[0]
        ):
            new: list[tuple[str, os.stat_result]] = []
            for path, status in entries:
                there.add(path)
                if path in laid:
                    continue
                signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
                size += status.st_size
                if len(self.sources) > COPY_FILES_MAX or size > COPY_BYTES_MAX:
                    raise ToolError(
                        "The workspace is too large to copy for a command, and the sandbox here has no overlay mount.",
                        hint="Install bubblewrap 0.11, or open a smaller folder.",
                    )
                if self.sources.get(path) != signature:
                    self.sources[path] = signature
                    new.append((path, status))
            if new:
                self.known |= _clone(self.root, self.copy, folder, new)
        for path in self.sources.keys() - there - laid - hidden:
            del self.sources[path]
            if self.known.pop(path, None) is not None:
                take_away(self.copy, path)
        for name in LINKED:
            if self.large == "linked" and is_real_folder(self.root / name) and not os.path.lexists(self.copy / name):
                (self.copy / name).symlink_to(self.root / name)

    def _note(self, path: str) -> None:
        with suppress(OSError):
            status = os.lstat(self.copy / path)
            self.known[path] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)

    def lay(self, path: str, data: bytes | None, mode: int) -> None:
        """Put a text of the overlay over the copy."""
        if data is None:
            take_away(self.copy, path)
            self.known.pop(path, None)
        else:
            put(self.copy, path, data, mode)
            self._note(path)

    def changes(self, skip: Skip) -> Iterator[Wrote]:
        """What the command changed in the copy since it was last looked at."""
        seen: set[str] = set()
        for path, status in _tree(self.copy, frozenset(), skip):
            seen.add(path)
            if _is_new(path, status, self.known):
                yield _file(self.copy, path, status)
        for path in sorted(set(self.known) - seen):
            if not os.path.lexists(self.copy / path):
                del self.known[path]
                yield Wrote(path, "deleted")


def _tree(
    root: Path, hidden: frozenset[str], skip: Skip = None, *, large: bool = False
) -> Iterator[tuple[str, os.stat_result]]:
    for here, folders, files, handle in os.fwalk(root, follow_symlinks=False):
        base = os.path.relpath(here, root).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        folders[:] = [
            name
            for name in (folders if base.count("/") < DEPTH_MAX else [])
            if (large or not (base == "." and name in LINKED))
            and prefix + name not in hidden
            and not _skips(skip, prefix + name)
        ]
        links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode)]
        for name in (*files, *links):
            path = prefix + name
            if path not in hidden:
                with suppress(OSError):
                    yield path, os.lstat(name, dir_fd=handle)


def _clone(root: Path, copy: Path, folder: str, entries: list[tuple[str, os.stat_result]]) -> dict[str, Signature]:
    """Copy files of one folder, sharing their blocks where the file system can; returns the copies' signatures.

    A link is copied as a link; what cannot be read is left out.
    """
    folders = folder.split("/") if folder else []
    clear_the_way(copy, folders)
    known: dict[str, Signature] = {}
    with folder_beneath(copy, folders, create=True) as there, suppress(OSError), folder_beneath(root, folders) as here:
        for path, status in entries:
            name = path.rpartition("/")[2]
            with suppress(OSError):
                if stat.S_ISLNK(status.st_mode):
                    remove(name, there)
                    os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
                    made = os.lstat(name, dir_fd=there)
                elif stat.S_ISREG(status.st_mode):
                    made = _copied(name, here, there, status)
                else:
                    continue
                known[path] = (made.st_mtime_ns, made.st_ctime_ns, made.st_size)
    return known


def _copied(name: str, here: int, there: int, status: os.stat_result) -> os.stat_result:
    mode = status.st_mode & 0o777
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            target = os.open(name, flags, mode, dir_fd=there)
        except FileExistsError:
            remove(name, there)
            target = os.open(name, flags, mode, dir_fd=there)
        try:
            if not _reflinked(source, target):
                size = min(status.st_size + 1, 2**20)
                part = os.read(source, size)
                while part:
                    last = len(part) < size  # a regular file that gives less has ended
                    while part:
                        part = part[os.write(target, part) :]
                    part = b"" if last else os.read(source, size)
            return os.fstat(target)
        finally:
            os.close(target)
    finally:
        os.close(source)


_NO_REFLINK = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS}
_cannot: set[int] = set()
"""Devices whose file systems are known to share no blocks."""


def _reflinked(source: int, target: int) -> bool:
    device = os.fstat(target).st_dev
    if device in _cannot:
        return False
    try:
        import fcntl  # not on Windows

        fcntl.ioctl(target, _FICLONE, source)
        return True
    except ImportError:
        return False
    except OSError as error:
        if error.errno in _NO_REFLINK:
            _cannot.add(device)
        return False
