"""The one resolver: every path that a tool names becomes a file beneath the workspace folder, or is told apart.

Nothing else turns a name into a place on the disk. Links are followed before the check; then each folder on the way is
opened beneath the one before, following no link, so that what was checked is what is opened, whoever changes it
in between. Only regular files are read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from redline_agent.errors import FileRefused, PathRefused
from redline_agent.limits import FILE_BYTES_MAX
from redline_agent.safety.beneath import BY_HANDLE, open_beneath
from redline_agent.safety.permits import Permit
from redline_agent.safety.places import places
from redline_agent.safety.requests import Access, FileEffect
from redline_agent.safety.rules import secret_files

_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Resolver:
    """Names to places beneath one workspace folder. A path is POSIX-like and relative to the folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.realpath(root))

    # ---- names

    def resolve(self, name: str) -> str:
        """Return the canonical relative path of `name`; raises PathRefused when it leaves the folder."""
        path, inside = self._real(name)
        if not inside:
            raise PathRefused(
                f"{name!r} is outside the workspace folder.", hint="Use a path inside the workspace folder."
            )
        return path

    def _real(self, name: str) -> tuple[str, bool]:
        """The canonical path of a name and whether it is inside; outside it is absolute."""
        if not name.strip() or any(ord(char) < 0x20 or ord(char) == 0x7F for char in name):
            raise PathRefused(f"{name!r} is not a usable path.", hint="Give a path relative to the workspace folder.")
        given = os.path.expanduser(name) if name == "~" or name.startswith("~/") else name  # noqa: PTH111
        if given.startswith("~"):
            raise PathRefused(f"{name!r} is somebody's home folder, outside the workspace.")
        try:
            real = os.path.realpath(self.root / given)
        except (OSError, ValueError) as error:
            raise PathRefused(f"{name!r} cannot be resolved: {error}.") from error
        if real == str(self.root):
            return ".", True
        prefix = str(self.root) if str(self.root).endswith(os.sep) else str(self.root) + os.sep
        if real.startswith(prefix):
            return real[len(prefix) :].replace(os.sep, "/"), True
        return real, False

    def place(self, path: str) -> Path:
        """Return the absolute place of a resolved path, checked again, because links may have changed."""
        if self.resolve(path) != path:
            raise PathRefused(f"{path!r} now leads elsewhere.", hint="Somebody changed a link; look at it again.")
        return self.root / path

    # ---- what is asked of the gate

    def access(self, effect: FileEffect, name: str) -> Access:
        """Return the request for an effect on a named file: where it really is, and under how many names."""
        path, inside = self._real(name)
        place = "workspace" if inside else places().kind(path)
        given = os.path.relpath(os.path.normpath(self.root / name), self.root).replace(os.sep, "/")
        if given != path and not given.startswith("..") and secret_files().speaks_of(given):
            place = "protected"  # a link of a secret's name
        links = 1
        try:
            status = (self.root / path if inside else Path(path)).lstat()
        except (OSError, ValueError):
            status = None
        if status is not None and stat.S_ISREG(status.st_mode):
            links = status.st_nlink
            if links > 1 and (status.st_dev, status.st_ino) in places().identities:
                place = "protected"
            if links > 1 and (place == "library" or _of_packages(path)):
                links = 1  # package managers link from one store
        return Access(effect, path, links=links, place=place)

    def names(self, path: str) -> int:
        """Return how many names a resolved path's file has on the disk, 0 when there is none."""
        try:
            return os.lstat(self.root / path).st_nlink
        except OSError:
            return 0

    # ---- reading

    def read_bytes(self, path: str) -> bytes | None:
        """Bytes of a regular file, None when there is none; raises FileRefused for all else."""
        return _checked(path, lambda: self._open(path))

    def read_lines(self, path: str, start: int, end: int, chars_max: int) -> list[str]:
        """Lines [start, end] from 1 of a regular file of any size, as UTF-8 with what is none replaced; at most so many
        characters of them.
        """
        try:
            handle = self._open(path)
        except OSError as error:
            raise _refused(path, error) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise FileRefused(f"{path} is not a regular file.")
        found: list[str] = []
        size, number = 0, 0
        with os.fdopen(handle, "rb") as file:
            while size < chars_max and number < end and (data := file.readline(chars_max)):
                number += 1
                if number >= start:
                    found.append(data.decode("utf-8", "replace"))
                    size += len(found[-1])
        return found

    def read_outside(self, request: Access, permit: Permit) -> bytes:
        """Bytes of a file outside the folder, for a permit to read it; raises PermitRefused, FileRefused."""
        permit.spend(request)
        if os.path.realpath(request.path) != request.path:
            raise PathRefused(f"{request.path!r} now leads elsewhere.")
        data = _checked(request.path, lambda: open_beneath(Path(request.path).anchor, request.path.lstrip("/"), _FILE))
        if data is None:
            raise FileRefused(f"There is no file {request.path}.")
        return data

    def _open(self, path: str) -> int:
        if not BY_HANDLE:
            return os.open(self.place(path), _FILE)
        return open_beneath(self.root, path, _FILE)

    def is_dir(self, path: str) -> bool:
        """Whether a resolved path is a folder on the disk."""
        return self.place(path).is_dir()


def _of_packages(path: str) -> bool:
    parts = path.split("/")
    return "node_modules" in parts or "site-packages" in parts


def _checked(path: str, opened: Callable[[], int]) -> bytes | None:
    try:
        handle = opened()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(path, error) from error
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise FileRefused(f"{path} is a folder.", hint="Use `list` for folders.")
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(f"{path} is not a regular file.")
        if status.st_size > FILE_BYTES_MAX:
            raise FileRefused(
                f"{path} has {status.st_size:,} bytes, more than {FILE_BYTES_MAX:,}.",
                hint="Redline works on text files up to that size.",
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(FILE_BYTES_MAX + 1)
    finally:
        os.close(handle)


def _refused(path: str, error: OSError) -> FileRefused | PathRefused:
    if error.errno == errno.ELOOP:
        return PathRefused(f"{path!r} now leads elsewhere.", hint="Somebody changed a link; look at it again.")
    if error.errno in (errno.EISDIR, errno.EACCES) and Path(path).is_dir():
        return FileRefused(f"{path} is a folder.", hint="Use `list` for folders.")
    return FileRefused(f"{path} cannot be read: {error.strerror or error}.")
