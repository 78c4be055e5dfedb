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
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

FRAME_BYTES_MAX = 64 * 2**20
HEADER_BYTES_MAX = 8 * 2**10
OUT_FRAMES_MAX = 20_000

logger = logging.getLogger(__name__)


class FrameError(Exception):
    """The input is not framed JSON any more; the connection cannot go on."""


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame's body, None at the end of input; raises FrameError."""
    length: int | None = None
    seen = 0
    while True:
        line = stream.readline(HEADER_BYTES_MAX + 1)
        if not line:
            return None
        seen += len(line)
        if seen > HEADER_BYTES_MAX:
            raise FrameError(f"A header of more than {HEADER_BYTES_MAX} bytes.")
        line = line.strip()
        if not line:
            if length is None:
                seen = 0
                continue
            break
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            if not value.strip().isdigit():
                raise FrameError(f"Content-Length is not a number: {value[:40]!r}.")
            length = int(value)
    if length > FRAME_BYTES_MAX:
        raise FrameError(f"A message of {length:,} bytes, more than {FRAME_BYTES_MAX:,}.")
    body = stream.read(length)
    return body if len(body) == length else None


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


async def pump(stream: BinaryIO, handle: Callable[[Any], None]) -> None:
    """Hand each message to `handle` in the event loop, until the input ends or is no longer framed."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def on_frame(body: bytes) -> None:
        if ended.done():
            return
        try:
            handle(_parsed(body))
        except SystemExit:
            if not ended.done():
                ended.set_result(None)

    def on_end(error: Exception | None) -> None:
        if not ended.done():
            if error:
                logger.error("The connection is given up: %s", error)
            ended.set_result(None)

    def read() -> None:
        failure: Exception | None = None
        try:
            while (body := read_frame(stream)) is not None:
                loop.call_soon_threadsafe(on_frame, body)
        except (FrameError, OSError, ValueError) as error:
            failure = error
        try:
            loop.call_soon_threadsafe(on_end, failure)
        except RuntimeError:
            return  # the loop is gone: the server has exited

    threading.Thread(target=read, name="redline-reader", daemon=True).start()
    await ended


def _parsed(body: bytes) -> Any:
    """Return the message, or the ValueError that it is not JSON, for the handler to answer."""
    try:
        return json.loads(body)
    except ValueError as error:
        return error
