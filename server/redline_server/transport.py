"""Frames on standard input and output. Reads leniently, writes strictly, and never lets the event loop wait.

pygls's own reader hangs on a lower-case `content-length` or on bare line feeds, and shares its thread pool; this one
has a thread for each direction. Everything that is not JSON-RPC goes to standard error: `serve` takes file
descriptor 1 away from whatever else would print.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import re
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO, cast

FRAME_BYTES_MAX = 64 * 2**20
OUT_FRAMES_MAX = 20_000
IN_MESSAGES_MAX = 20_000
"""Messages read and not yet handled; a client that sends faster waits."""
DRAIN_S_MAX = 0.01
"""How long messages are handled before other work of the event loop has its turn."""

logger = logging.getLogger(__name__)

_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?\n?$", re.IGNORECASE)
_HEADER = re.compile(rb"content-length[ \t]*:", re.IGNORECASE)
_LINE_BYTES_MAX = 8 * 2**10


class FrameReader:
    """Frames from a stream, whatever is in it: what is no frame is skipped until the next header that is one.

    Header names in any case, lines ended by CRLF or LF, other headers ignored. A length that was too short leaves the
    rest of its message to be skipped; one that was too long has swallowed the next header, which `again` gives back.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._back = b""
        self.skipped = 0

    def next(self) -> bytes | None:
        """Return the next frame's body, None at the end of input."""
        length: int | None = None
        while True:
            line = self._line()
            if not line:
                return None
            if not line.strip():
                if length is not None:
                    break
                continue
            found = _LENGTH.search(line)
            if found and int(found[1]) <= FRAME_BYTES_MAX:
                length = int(found[1])
            elif b":" not in line or found:
                self.skipped += len(line)
        body = self._read(length)
        return body if len(body) == length else None

    def again(self, body: bytes) -> bytes:
        """Return the part of a broken body before a header that it swallowed; what follows will be read again."""
        found = _HEADER.search(body)
        if found is None:
            return body
        self._back = body[found.start() :] + self._back
        return body[: found.start()]

    def _line(self) -> bytes:
        if not self._back:
            return self._stream.readline(_LINE_BYTES_MAX)
        at = self._back.find(b"\n")
        if at < 0:
            line, self._back = self._back + self._stream.readline(_LINE_BYTES_MAX), b""
            return line
        line, self._back = self._back[: at + 1], self._back[at + 1 :]
        return line

    def _read(self, length: int) -> bytes:
        taken, self._back = self._back[:length], self._back[length:]
        return taken + self._stream.read(length - len(taken)) if len(taken) < length else taken


class Writer:
    """Frames to standard output, in order, by a thread, so that a client that does not read stops nobody."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._dead = False
        self._queue: queue.Queue[bytes | None] = queue.Queue(OUT_FRAMES_MAX)
        self._thread = threading.Thread(target=self._pump, name="redline-writer", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue one frame; when the client has not read for long, this and all later ones are given up."""
        if self._dead:
            return
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            self._dead = True  # a protocol with a hole in it is worse than none
            logger.warning("The client has not read for %d messages; nothing more is written.", OUT_FRAMES_MAX)

    def close(self) -> None:
        """Write what is queued (for at most two seconds) and stop."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(2)

    def _pump(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                self._stream.write(data)
                if self._queue.empty():
                    self._stream.flush()
            self._stream.flush()
        except (OSError, ValueError):
            self._dead = True


def take_stdio() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of the connection; from now on `print` and child processes reach standard error instead."""
    reader = os.fdopen(os.dup(0), "rb")
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return reader, writer


class Inbox:
    """Messages on their way from the reading thread to the event loop, in order.

    A request whose cancellation is here before the loop came to it is never begun: it is answered as cancelled.
    """

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._waiting: set[Any] = set()
        self._cancelled: set[Any] = set()
        self._room = threading.Condition()

    def put(self, message: Any) -> bool:
        """Add a message, waiting while too many lie here; returns whether it is the only one. In the reading thread."""
        with self._room:
            while len(self._messages) >= IN_MESSAGES_MAX:
                self._room.wait()
            ident, method = _id_and_method(message)
            if method == "$/cancelRequest":
                wanted = _cancelled_id(message)
                if wanted in self._waiting:
                    self._cancelled.add(wanted)
            elif ident is not None and method:
                self._waiting.add(ident)
            self._messages.append(message)
            return len(self._messages) == 1

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._messages

    def take(self) -> tuple[Any, bool] | None:
        """Return the next message and whether it was cancelled already; None when there is none."""
        with self._room:
            if not self._messages:
                return None
            message = self._messages.popleft()
            if len(self._messages) < IN_MESSAGES_MAX // 2:
                self._room.notify()
            ident, method = _id_and_method(message)
            if ident is None or not method:
                return message, False
            cancelled = ident in self._cancelled
            self._cancelled.discard(ident)
            self._waiting.discard(ident)
            return message, cancelled


def _id_and_method(message: Any) -> tuple[Any, str]:
    if not isinstance(message, dict):
        return None, ""
    known = cast("dict[str, Any]", message)
    ident, method = known.get("id"), known.get("method")
    return (ident if isinstance(ident, int | str) else None), (method if isinstance(method, str) else "")


def _cancelled_id(message: dict[str, Any]) -> Any:
    params = message.get("params")
    wanted = cast("dict[str, Any]", params).get("id") if isinstance(params, dict) else None
    return wanted if isinstance(wanted, int | str) else None


class _Pump:
    """Between the reading thread and the event loop."""

    def __init__(self, handle: Callable[[Any], None], cancelled: Callable[[Any], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.inbox = Inbox()
        self._handle = handle
        self._cancelled = cancelled

    def drain(self) -> None:
        """Handle what lies here, for a bounded time."""
        until = self.loop.time() + DRAIN_S_MAX
        while not self.ended.done() and (taken := self.inbox.take()) is not None:
            message, was_cancelled = taken
            try:
                if was_cancelled:
                    self._cancelled(message["id"])
                else:
                    self._handle(message)
            except SystemExit:
                self.ended.set_result(None)
            except Exception:
                logger.exception("A message could not be handled")
            if self.loop.time() > until:
                self.loop.call_soon(self.drain)
                return

    def finish(self) -> None:
        """Handle the rest and end."""
        self.drain()
        if not self.ended.done():
            if self.inbox.empty:
                self.ended.set_result(None)
            else:
                self.loop.call_soon(self.finish)

    def read(self, stream: BinaryIO) -> None:
        """Read until the input ends (in a thread of its own)."""
        frames = FrameReader(stream)
        try:
            while (body := frames.next()) is not None:
                message = _parsed(body)
                if isinstance(message, ValueError):
                    message = _parsed(frames.again(body))
                if self.inbox.put(message):
                    self.loop.call_soon_threadsafe(self.drain)
        except (OSError, ValueError) as error:
            logger.warning("The connection broke: %s", error)
        except RuntimeError:
            return  # the loop is gone: the server has exited
        if frames.skipped:
            logger.warning("%d bytes between messages were no part of any.", frames.skipped)
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.finish)


async def pump(stream: BinaryIO, handle: Callable[[Any], None], cancelled: Callable[[Any], None]) -> None:
    """Hand each message to `handle` in the event loop, or its id to `cancelled`, until the input ends."""
    between = _Pump(handle, cancelled)
    threading.Thread(target=between.read, args=(stream,), name="redline-reader", daemon=True).start()
    await between.ended


def _parsed(body: bytes) -> Any:
    """Return the message, or the ValueError that it is not JSON, for the handler to answer."""
    try:
        return json.loads(body)
    except RecursionError:
        return ValueError("it is nested too deeply")
    except ValueError as error:
        return error
