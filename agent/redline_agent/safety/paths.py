"""The one resolver: every path that a tool names becomes a file beneath the workspace folder, or is refused.

Nothing else turns a name into a place on the disk. Links are followed before the check, so that what was
checked is what is opened; reading opens without following a last link and takes regular files only.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from redline_agent.errors import FileRefused, PathRefused
from redline_agent.limits import FILE_BYTES_MAX


class Resolver:
    """Names to places beneath one workspace folder. A path is POSIX-like and relative to the folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.realpath(root))

    def resolve(self, name: str) -> str:
        """Return the canonical relative path of `name`; raises PathRefused when it leaves the folder."""
        if not name.strip() or any(ord(char) < 0x20 or ord(char) == 0x7F for char in name):
            raise PathRefused(f"{name!r} is not a usable path.", hint="Give a path relative to the workspace folder.")
        if name.startswith("~"):
            raise PathRefused(f"{name!r}: the home folder is outside the workspace.")
        try:
            real = os.path.realpath(self.root / name)
        except (OSError, ValueError) as error:
            raise PathRefused(f"{name!r} cannot be resolved: {error}.") from error
        if real == str(self.root):
            return "."
        prefix = str(self.root) if str(self.root).endswith(os.sep) else str(self.root) + os.sep
        if not real.startswith(prefix):
            raise PathRefused(
                f"{name!r} is outside the workspace folder.", hint="Use a path inside the workspace folder."
            )
        return real[len(prefix) :].replace(os.sep, "/")

    def place(self, path: str) -> Path:
        """Return the absolute place of a resolved path, checked again, because links may have changed."""
        if self.resolve(path) != path:
            raise PathRefused(f"{path!r} now leads elsewhere.", hint="Somebody changed a link; look at it again.")
        return self.root / path

    def read_bytes(self, path: str) -> bytes | None:
        """Bytes of a regular file, None when there is none; raises FileRefused for all else."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            handle = os.open(self.place(path), flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.EACCES) and (self.root / path).is_dir():
                raise FileRefused(f"{path} is a folder.", hint="Use `list` for folders.") from error
            raise FileRefused(f"{path} cannot be read: {error.strerror or error}.") from error
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

    def is_dir(self, path: str) -> bool:
        """Whether a resolved path is a folder on the disk."""
        return self.place(path).is_dir()
