"""How processes of one user that work on the same folder reach each other: a socket each, in a folder of theirs alone.

A message is one line of JSON, and so is its answer. A server tells which files its editor has open, and accepts hunks
there for a terminal, so that nobody writes beneath an open buffer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from redline_agent.config import state_dir
from redline_agent.errors import RedlineError

READ_S_MAX = 15.0
ANSWER_S_MAX = 180.0
"""An editor may ask the person before it applies an edit."""
LINE_BYTES_MAX = 1_000_000
NAME_BYTES_MAX = 60
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
ABLE = hasattr(socket, "AF_UNIX") and sys.platform != "win32"


def meeting_place(journal: Path) -> Path:
    """Return the folder of the sockets of those who work with a journal, 0700 and the user's; raises OSError.

    It is the same for every process of the user, whatever its environment: an editor's, a terminal's, cron's. Where the
    state folder's name is too long for a socket's (about 100 bytes), it is in /tmp.
    """
    top = state_dir() / "live"
    if len(os.fsencode(top)) > NAME_BYTES_MAX:
        top = Path("/tmp") / f"redline-{os.getuid()}"  # noqa: S108  0700, and checked below
    top.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (top, top / hashlib.sha256(str(journal).encode()).hexdigest()[:16]):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(13, "it is not the user's alone", str(folder))
    return top / hashlib.sha256(str(journal).encode()).hexdigest()[:16]


class Ear:
    """One process's socket: answers each message by a handler."""

    def __init__(self, journal: Path, handler: Handler) -> None:
        self._journal = journal
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def open(self) -> None:
        """Begin to listen; where that cannot be, nobody reaches this process, and that is all."""
        if not ABLE:
            return
        with suppress(OSError):
            path = meeting_place(self._journal) / f"{os.getpid()}.sock"
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._meet, path, limit=LINE_BYTES_MAX)
            path.chmod(0o600)
            self._path = path

    @property
    def is_open(self) -> bool:
        """Whether others can reach this process."""
        return self._path is not None

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer(writer.get_extra_info("socket")) in (os.getuid(), None):
                async with asyncio.timeout(READ_S_MAX):
                    line = await reader.readline()
                answer = await self._answer(line)  # bounded by what it does, and never cut in the middle of that
                async with asyncio.timeout(READ_S_MAX):
                    writer.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                    await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # who asked has gone, or sent too much
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                return {"error": "A message is one JSON object."}
            return await self._handler(cast("dict[str, Any]", message))
        except (ValueError, RedlineError) as error:
            return {"error": str(error)}

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def _peer(connection: Any) -> int | None:
    """The user at the other end, None where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def others(journal: Path) -> list[Path]:
    """Return the sockets of other processes over the same journal; one of a dead process goes when it is asked."""
    if not ABLE:
        return []
    try:
        return [path for path in sorted(meeting_place(journal).glob("*.sock")) if path.stem != str(os.getpid())]
    except OSError:
        return []


def reached(journal: Path) -> bool:
    """Whether another process over the same journal answers."""
    return any(ask(path, {"do": "job"}, READ_S_MAX) is not None for path in others(journal))


async def talk(path: Path, message: dict[str, Any], timeout_s: float = ANSWER_S_MAX) -> dict[str, Any] | None:
    """Return the answer of a process, as `ask` does, without holding the loop up."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
            try:
                writer.write(json.dumps(message).encode() + b"\n")
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except ConnectionRefusedError:
        _forget(path)
        return None
    except (OSError, ValueError, TimeoutError):
        return None
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def ask(path: Path, message: dict[str, Any], timeout_s: float = ANSWER_S_MAX) -> dict[str, Any] | None:
    """Return the answer of a process; None when it is dead or does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer = json.loads(answers.readline(LINE_BYTES_MAX))
    except ConnectionRefusedError:
        _forget(path)
        return None
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None
