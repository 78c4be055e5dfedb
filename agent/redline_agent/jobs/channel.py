"""The line between a coordinator and its workers: JSON frames over mutual TLS, a length of four bytes before each.

A worker asks and waits; the coordinator answers each message before the next. Nothing but JSON is ever read from it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from redline_agent.errors import JournalError, RedlineError, UsageError

FRAME_BYTES_MAX = 64 * 2**20
CONNECT_S_MAX = 20.0
ANSWER_S_MAX = 120.0
CONNECTIONS_MAX = 4096
CLOSE_S_MAX = 2.0
PING_EVERY_S = 5.0
SILENT_S_MAX = 20.0
"""A worker of which nothing is heard for so long, its pings neither, is taken for dead."""


class Superseded(RedlineError):
    """The coordinator wants nothing more of this attempt: another worker has the target, or the campaign stops."""


class Line:
    """A worker's end, for one thread."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.address = address
        self.broken = False
        host, _, port = address.rpartition(":")
        try:
            plain = socket.create_connection((host, int(port)), CONNECT_S_MAX)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = context.wrap_socket(plain)
            self._socket.settimeout(ANSWER_S_MAX)
        except (OSError, ValueError) as error:
            raise JournalError(f"The campaign's coordinator at {address} cannot be reached: {error}.") from error
        self._turn = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._ping, daemon=True, name="redline-ping").start()

    def _ping(self) -> None:
        """Say now and then that this worker is there, whatever it waits for."""
        while not self._closed.wait(PING_EVERY_S):
            with suppress(RedlineError):
                self.say({"do": "ping"})

    def say(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the coordinator's answer; raises JournalError when there is none, Superseded when it wants no more."""
        with self._turn:
            return self._say(message)

    def _say(self, message: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(body) > FRAME_BYTES_MAX:
            raise JournalError(f"A message to the coordinator is larger than {FRAME_BYTES_MAX:,} bytes.")
        try:
            self._socket.sendall(struct.pack(">I", len(body)) + body)
            (size,) = struct.unpack(">I", self._exactly(4))
            if size > FRAME_BYTES_MAX:
                raise JournalError("The coordinator's answer is too large.")
            answer = json.loads(self._exactly(size).decode("utf-8", "surrogatepass"))
        except (OSError, ValueError) as error:
            self.close()
            raise JournalError(f"The campaign's coordinator does not answer: {error}.") from error
        if not isinstance(answer, dict):
            raise JournalError("The coordinator's answer is no object.")
        said = cast("dict[str, Any]", answer)
        if "stop" in said:
            raise Superseded(str(said["stop"]))
        if "error" in said:
            raise JournalError(f"The coordinator refused: {said['error']}")
        return said

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise ConnectionError("it closed the connection")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the connection."""
        self.broken = True
        self._closed.set()
        with suppress(OSError):
            self._socket.close()


class Visit(Protocol):
    """One connection of a worker, as the coordinator knows it."""

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one message."""
        ...

    def over(self) -> None:
        """Forget it: the worker has gone."""
        ...


class Listener:
    """The coordinator's end: each connection has a visit of its own, and a mistake in it ends that connection alone."""

    def __init__(self, visit: Callable[[], Visit]) -> None:
        self._visit = visit
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    async def open(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen; returns the port. Raises RedlineError when the place is taken."""
        try:
            self._server = await asyncio.start_server(self._meet, host, port, ssl=context, limit=FRAME_BYTES_MAX)
        except OSError as error:
            raise RedlineError(f"Workers cannot be listened to on {host}:{port}: {error}.") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._writers.add(writer)
        here = self._visit()
        try:
            while True:
                async with asyncio.timeout(SILENT_S_MAX):
                    head = await reader.readexactly(4)
                (size,) = struct.unpack(">I", head)
                if size > FRAME_BYTES_MAX:
                    return
                body = await reader.readexactly(size)
                answer = await _answered(here.answer, body)
                writer.write(struct.pack(">I", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it has gone
        finally:
            try:
                with suppress(RedlineError):  # the disk has no room: the campaign stops with that
                    here.over()
            finally:
                writer.close()
                self._writers.discard(writer)
                if not self._writers:
                    self._empty.set()

    async def close(self) -> None:
        """Stop listening, and end what is connected."""
        if self._server is not None:
            self._server.close()
        self._empty.clear()
        for writer in list(self._writers):
            writer.close()
        if self._writers:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), CLOSE_S_MAX)


async def _answered(answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], body: bytes) -> bytes:
    try:
        message = json.loads(body.decode("utf-8", "surrogatepass"))
        if not isinstance(message, dict):
            raise TypeError("a message is one JSON object")
        said = await answer(cast("dict[str, Any]", message))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        said = {"error": f"a message that means nothing here ({type(error).__name__}: {error})"}
    except RedlineError as error:
        said = {"error": str(error)}
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")


def place_of(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is no HOST:PORT.", hint="As in build1.example:7000; port 0 takes a free one.")
    return host.strip("[]"), int(port)
