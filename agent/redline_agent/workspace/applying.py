"""Writing accepted changes to the disk, for headless use and for clients that cannot: all files or none.

Each file is written beside its place and moved over it; a failure half way puts back what was replaced.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from redline_agent.errors import StaleFile, WorkspaceError
from redline_agent.safety.beneath import BY_HANDLE, folder_beneath
from redline_agent.safety.paths import Resolver
from redline_agent.safety.permits import Permit
from redline_agent.safety.requests import Apply, bytes_digest


@dataclass(frozen=True, slots=True)
class Write:
    """A file's new bytes (None: delete it) and the bytes that must be there now (None: nothing).

    `like` is a path whose mode bits a new file gets, `mode` the bits themselves; `executable` gives it a program's.
    """

    before: bytes | None
    after: bytes | None
    like: str = ""
    mode: int = 0
    executable: bool = False


def accepted(resolver: Resolver, writes: Mapping[str, Write]) -> Permit:
    """Return the permit for writes that the user accepted, bound to their bytes; raises Blocked."""
    from redline_agent.safety.keeper import permit_to_apply  # the rules, read when first needed

    return permit_to_apply(_request(writes), resolver.root)


def _request(writes: Mapping[str, Write]) -> Apply:
    return Apply(tuple((path, bytes_digest(w.before), bytes_digest(w.after)) for path, w in sorted(writes.items())))


def write_files(resolver: Resolver, writes: Mapping[str, Write], permit: Permit, token: str = "") -> None:
    """Carry out all writes, or none; raises PermitRefused, StaleFile when a file is not as expected, WorkspaceError.

    `token` is what the names of files beside their places are made of, so that a crash's can be found (`sweep`).
    """
    token = token or secrets.token_hex(6)
    permit.spend(_request(writes))
    for path, write in writes.items():
        if resolver.read_bytes(path) != write.before:
            raise StaleFile(f"{path} changed on the disk since the proposal was made.", hint="Ask again.")
    modes = {path: _mode(resolver.place(write.like or path)) for path, write in writes.items()}
    modes |= {path: write.mode for path, write in writes.items() if write.mode and modes[path] is None}
    modes |= {path: 0o755 & ~_umask() for path, write in writes.items() if write.executable and modes[path] is None}
    done: list[str] = []
    path = ""
    try:
        for path in _in_order(writes):
            _put(resolver, path, writes[path].after, modes[path], token, writes[path].before)
            done.append(path)
    except (OSError, WorkspaceError, StaleFile) as error:
        for undone in reversed(done):
            with contextlib.suppress(OSError, WorkspaceError, StaleFile):
                _put(resolver, undone, writes[undone].before, modes[undone], token, writes[undone].after)
        if isinstance(error, StaleFile):
            raise
        reason = (error.strerror or error) if isinstance(error, OSError) else error.message
        raise WorkspaceError(
            f"Nothing was changed: {getattr(error, 'filename', None) or path} could not be written ({reason}).",
            hint="Check the permissions and the space on the disk.",
        ) from error
    for path, write in writes.items():
        if write.after is None:
            prune(resolver, path)


def _in_order(writes: Mapping[str, Write]) -> list[str]:
    """Deletions last, but for those in whose place a folder is to be."""
    made = [path for path, write in writes.items() if write.after is not None]
    gone = [path for path in writes if path not in set(made)]
    first = [path for path in gone if any(each.startswith(path + "/") for each in made)]
    return [*first, *made, *(path for path in gone if path not in first)]


def _mode(place: Path) -> int | None:
    return stat.S_IMODE(place.stat().st_mode) if place.exists() else None


def _put(resolver: Resolver, path: str, data: bytes | None, mode: int | None, token: str, before: bytes | None) -> None:
    """Write or remove one file: a new one beside it, moved over it, in a folder that was reached through no link.

    Raises StaleFile when it is not what it was `before` just then.
    """
    place = resolver.place(path)
    if data is not None and place.exists() and mode is not None and not (mode & 0o222 and os.access(place, os.W_OK)):
        raise PermissionError(13, "it is read-only", str(place))
    bits = 0o644 & ~_umask() if mode is None else mode
    if not BY_HANDLE:
        _still(resolver, path, before)
        _put_by_name(place, data, bits, token)
        return
    *folders, name = path.split("/")
    with folder_beneath(resolver.root, folders, create=data is not None) as folder:
        if data is None:
            _still(resolver, path, before)
            os.unlink(name, dir_fd=folder)
            return
        beside = _beside(token)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)  # of a process that died
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                _fill(file, data)
            os.chmod(beside, bits, dir_fd=folder)
            _still(resolver, path, before)
            os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise


def _still(resolver: Resolver, path: str, before: bytes | None) -> None:
    if resolver.read_bytes(path) != before:
        raise StaleFile(f"{path} changed on the disk just now.", hint="Look at it, and accept again.")


def _beside(token: str) -> str:
    return f".redline-{token}.tmp"


def sweep(resolver: Resolver, path: str, token: str) -> None:
    """Remove what a process that died in mid-write left beside a file's place."""
    if token and path:
        place = resolver.place(path)
        (place.parent / _beside(token)).unlink(missing_ok=True)


def _put_by_name(place: Path, data: bytes | None, bits: int, token: str) -> None:
    if data is None:
        place.unlink()
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.parent / _beside(token)
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as file:
            _fill(file, data)
        beside.chmod(bits)
        beside.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _fill(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def prune(resolver: Resolver, path: str) -> None:
    """Remove the folders that a file left empty, up to the workspace's own."""
    place = resolver.place(path).parent
    while resolver.root in place.parents:
        try:
            place.rmdir()
        except OSError:
            return
        place = place.parent


def set_executable(resolver: Resolver, path: str, executable: bool) -> None:
    """Make a file a program that the user accepted to be one, or none. Raises Blocked, WorkspaceError."""
    from redline_agent.safety.keeper import permit_to_apply  # as above

    permit_to_apply(Apply(((path, "mode", "+x" if executable else "-x"),)), resolver.root)
    place = resolver.place(path)
    try:
        if not BY_HANDLE:
            place.chmod(with_mode(place.stat().st_mode, executable))
            return
        *folders, name = path.split("/")
        with folder_beneath(resolver.root, folders) as folder:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fchmod(handle, with_mode(os.fstat(handle).st_mode, executable))
            finally:
                os.close(handle)
    except OSError as error:
        raise WorkspaceError(f"The mode of {path} could not be changed ({error.strerror or error}).") from error


def with_mode(mode: int, executable: bool) -> int:
    """Return mode bits with those who may read a file being able to run it, or nobody."""
    mode = stat.S_IMODE(mode)
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111


def taken_back(kind: str, resolver: Resolver, path: str, to: str, before: bytes, *, executable: bool) -> bool:
    """Whether the disk is as it was before a file operation that was carried out (`before` is what a deletion took)."""
    here = resolver.place(path)
    match kind:
        case "create":
            return not here.exists()
        case "delete":
            return here.is_file() and resolver.read_bytes(path) == before
        case "rename":
            return here.exists() and not resolver.place(to).exists()
        case _:
            return is_executable(resolver, path) == (not executable)


def is_executable(resolver: Resolver, path: str) -> bool | None:
    """Whether a file is a program; None when it is not there."""
    try:
        return bool(resolver.place(path).stat().st_mode & stat.S_IXUSR)
    except OSError:
        return None


def move_file(resolver: Resolver, path: str, to: str) -> None:
    """Rename a file that the user accepted to be renamed; refuses to replace another one. Raises Blocked."""
    from redline_agent.safety.keeper import permit_to_apply  # as above

    permit_to_apply(Apply(((path, "-", ""), (to, "", "-"))), resolver.root)
    source, target = resolver.place(path), resolver.place(to)
    if target.exists():
        raise WorkspaceError(f"{to} exists already.", hint="Move it away, or reject the rename.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target, follow_symlinks=False)  # unlike a rename it never replaces what came there just now
        except FileExistsError:
            raise
        except (OSError, NotImplementedError):  # a file system without links
            source.rename(target)
        else:
            source.unlink()
        prune(resolver, path)
    except OSError as error:
        raise WorkspaceError(f"{path} could not be renamed to {to} ({error.strerror or error}).") from error
