"""MCP's two transports, bounded: lines over a process's pipes, and HTTP without redirects or the machine's proxies.

Each is an asynchronous context manager that yields the two streams that the SDK's client works with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

LINE_BYTES_MAX = 8 * 2**20
BAD_LINES_MAX = 20
WAITING_MAX = 100
END_S_MAX = 2.0


class Wire:
    """Whether a server can still be reached, and why not."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.reason = ""


@asynccontextmanager
async def stdio_streams(process: asyncio.subprocess.Process, wire: Wire) -> AsyncGenerator[tuple[Any, Any]]:
    """Yield streams over a process's pipes: a line of JSON is a message. The process is killed in the end."""
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp.types import jsonrpc_message_adapter

    inbox, reading = anyio.create_memory_object_stream[Any](0)
    writing, outbox = anyio.create_memory_object_stream[Any](WAITING_MAX)  # with none, a stuck server stops the clock

    async def read() -> None:
        bad = 0
        try:
            async for line in _lines(process.stdout):
                if not line.strip():
                    continue
                try:
                    await inbox.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
                except ValueError:
                    bad += 1
                    if bad > BAD_LINES_MAX:
                        wire.reason = "too many of its lines are not JSON-RPC"
                        return
            wire.reason = wire.reason or "it closed its output"
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        except (OSError, OverflowError) as error:
            wire.reason = str(error)
        finally:
            inbox.close()
            wire.closed.set()

    async def write() -> None:
        try:
            async for message in outbox:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                if process.stdin is not None:
                    process.stdin.write(line.encode() + b"\n")
                    await process.stdin.drain()
        except OSError as error:
            wire.reason = wire.reason or str(error)
            wire.closed.set()

    tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
    try:
        yield reading, writing
    finally:
        for stream in (reading, writing):
            stream.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        inbox.close()
        outbox.close()
        await _ended(process)


async def _lines(stream: asyncio.StreamReader | None) -> AsyncGenerator[bytes]:
    """Yield whole lines; raises OverflowError for one that is too long."""
    held = bytearray()
    while stream is not None and (part := await stream.read(65536)):
        held += part
        *whole, rest = held.split(b"\n")
        held = bytearray(rest)
        for line in whole:
            yield bytes(line)
        if len(held) > LINE_BYTES_MAX:
            raise OverflowError(f"it sent a line of more than {LINE_BYTES_MAX:,} bytes")


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S_MAX):
            while process.returncode is None:  # noqa: ASYNC110  wait() would wait for the pipes too
                await asyncio.sleep(0.02)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@asynccontextmanager
async def http_streams(url: str, headers: dict[str, str]) -> AsyncGenerator[tuple[Any, Any]]:
    """Yield streams over streamable HTTP."""
    import httpx2  # the SDK's own HTTP library
    from mcp.client.streamable_http import streamable_http_client

    timeout = httpx2.Timeout(30, read=120)
    async with (
        httpx2.AsyncClient(trust_env=False, max_redirects=0, timeout=timeout, headers=headers) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=LINE_BYTES_MAX) as streams,
    ):
        yield streams[0], streams[1]
