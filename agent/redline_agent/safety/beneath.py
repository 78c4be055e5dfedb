"""Files beneath a folder, reached through handles: each step is opened beneath the one before and follows no link.

So what was checked is what is opened, and what a command planted in a folder of ours leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from redline_agent.limits import FILE_BYTES_MAX

BY_HANDLE = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
"""Whether folders can be opened one beneath the other; on Windows paths are checked again just before use."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def open_beneath(root: str | Path, path: str, flags: int, mode: int = 0o600) -> int:
    """Open a path beneath a folder; a link anywhere on the way is an OSError (ELOOP or ENOTDIR)."""
    *folders, name = [part for part in path.split("/") if part]
    if ".." in folders or name == "..":
        raise OSError(errno.EINVAL, "it has .. in it", path)
    with folder_beneath(root, folders) as handle:
        return os.open(name, flags | getattr(os, "O_CLOEXEC", 0), mode, dir_fd=handle)


@contextmanager
def folder_beneath(root: str | Path, folders: list[str], *, create: bool = False) -> Generator[int]:
    """Give a handle on a folder beneath another, each step opened without following a link."""
    handle = os.open(root, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        for folder in folders:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=handle)
            following = os.open(folder, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def put(root: Path, path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file beneath a folder; what a command put in the way (a link, a file for a folder) is removed first."""
    *folders, name = path.split("/")
    clear_the_way(root, folders)
    with folder_beneath(root, folders, create=True) as handle:
        remove(name, handle)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=handle)
        with os.fdopen(file, "wb") as opened:
            opened.write(data)


def put_deleted(root: Path, path: str) -> None:
    """Lay a whiteout, which an overlay mount shows as no file."""
    *folders, name = path.split("/")
    clear_the_way(root, folders)
    with folder_beneath(root, folders, create=True) as handle:
        remove(name, handle)
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=handle)


def take_away(root: Path, path: str) -> None:
    """Remove a file beneath a folder, if it is there."""
    *folders, name = path.split("/")
    with suppress(OSError), folder_beneath(root, folders) as handle:
        remove(name, handle)


def remove(name: str, handle: int) -> None:
    """Remove a name in a folder, with all beneath it; a link is removed, not followed."""
    with suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=handle)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            _remove_folder(name, handle)


def _remove_folder(name: str, handle: int) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    try:
        for entry in os.listdir(inner):  # noqa: PTH208  a handle, not a path
            remove(entry, inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=handle)


def clear_the_way(root: Path, folders: list[str]) -> None:
    """Remove what stands in the way of folders beneath a root: a link, or a file."""
    for depth in range(len(folders)):
        try:
            with folder_beneath(root, folders[: depth + 1]):
                continue
        except FileNotFoundError:
            return
        except OSError:
            take_away(root, "/".join(folders[: depth + 1]))
            return


def read_beneath(root: Path, path: str) -> bytes | None:
    """Bytes of a regular file beneath a folder, None when it is not one or too large."""
    try:
        handle = open_beneath(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_BYTES_MAX:
            return None
        return file.read(FILE_BYTES_MAX + 1)


def ensure(root: Path, path: str, *, folder: bool) -> None:
    """Have a real folder (or an empty file) at a path beneath a folder; anything else there is removed first."""
    *folders, name = path.split("/")
    clear_the_way(root, folders)
    with folder_beneath(root, folders, create=True) as handle:
        try:
            mode = os.lstat(name, dir_fd=handle).st_mode
        except FileNotFoundError:
            mode = 0
        if stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode):
            return
        remove(name, handle)
        if folder:
            os.mkdir(name, 0o700, dir_fd=handle)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=handle))


def is_plain(root: Path, path: str) -> bool:
    """Whether no link, and no file in the place of a folder, stands on the way to a path; what is missing is plain."""
    parts = path.split("/")
    for depth in range(len(parts)):
        try:
            mode = os.lstat(f"{root}/{'/'.join(parts[: depth + 1])}").st_mode
        except OSError:
            return True
        last = depth == len(parts) - 1
        if not (stat.S_ISDIR(mode) or (last and stat.S_ISREG(mode))):
            return False
    return True
