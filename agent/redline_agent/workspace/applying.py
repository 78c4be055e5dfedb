"""Writing accepted changes to the disk, for headless use and for clients that cannot: all files or none.

Each file is written beside its place and moved over it; a failure half way puts back what was replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redline_agent.errors import StaleFile, WorkspaceError
from redline_agent.safety.paths import Resolver


@dataclass(frozen=True, slots=True)
class Write:
    """A file's new bytes (None: delete it) and the bytes that must be there now (None: nothing).

    `like` is a path whose mode bits a new file gets.
    """

    before: bytes | None
    after: bytes | None
    like: str = ""


def write_files(resolver: Resolver, writes: Mapping[str, Write]) -> None:
    """Carry out all writes, or none; raises StaleFile when a file is not as expected, WorkspaceError on failure."""
    for path, write in writes.items():
        if resolver.read_bytes(path) != write.before:
            raise StaleFile(f"{path} changed on the disk since the proposal was made.", hint="Ask again.")
    modes = {path: _mode(resolver.place(write.like or path)) for path, write in writes.items()}
    done: list[str] = []
    path = ""
    try:
        for path, write in sorted(writes.items(), key=lambda item: item[1].after is None):  # deletions last
            _put(resolver.place(path), write.after, modes[path])
            done.append(path)
    except (OSError, WorkspaceError) as error:
        for undone in reversed(done):
            with contextlib.suppress(OSError, WorkspaceError):
                _put(resolver.place(undone), writes[undone].before, modes[undone])
        reason = (error.strerror or error) if isinstance(error, OSError) else error.message
        raise WorkspaceError(
            f"Nothing was changed: {getattr(error, 'filename', None) or path} could not be written ({reason}).",
            hint="Check the permissions and the space on the disk.",
        ) from error


def _mode(place: Path) -> int | None:
    return stat.S_IMODE(place.stat().st_mode) if place.exists() else None


def _put(place: Path, data: bytes | None, mode: int | None) -> None:
    if data is None:
        place.unlink()
        return
    if place.exists() and mode is not None and not (mode & 0o222 and os.access(place, os.W_OK)):
        raise PermissionError(13, "it is read-only", str(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".redline-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644 & ~_umask() if mode is None else mode)
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def move_file(resolver: Resolver, path: str, to: str) -> None:
    """Rename a file; refuses to replace another one."""
    source, target = resolver.place(path), resolver.place(to)
    if target.exists():
        raise WorkspaceError(f"{to} exists already.", hint="Move it away, or reject the rename.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise WorkspaceError(f"{path} could not be renamed to {to} ({error.strerror or error}).") from error
