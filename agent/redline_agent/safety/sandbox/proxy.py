"""The allow-listing proxy: the only way from a sandboxed command to the network, off unless the user granted a host.

Each connection is a request to the gate of its own. Names are looked up here, once, and what is connected to is what
was
looked up; addresses of this machine and its neighbours are refused unless the user granted exactly that name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from redline_agent.errors import RedlineError
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.requests import Connect
from redline_agent.safety.sandbox.net_inside import PORT
from redline_agent.text import one_line
from redline_agent.together import together

HEAD_BYTES_MAX = 32_000
CONNECTIONS_MAX = 64
CONNECT_S_MAX = 15.0
BYTES_OUT_MAX = 64 * 2**20
PORTS = (80, 443)

ENVIRONMENT = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), f"http://127.0.0.1:{PORT}"
)

Lookup = Callable[[str, int], Awaitable[str]]


async def look_up(host: str, port: int) -> str:
    """Return the first address of a name; raises OSError, also for a name that leads to this machine or its network.

    An address, or localhost, is what the user granted by that very name.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    local = host == "localhost" or host.replace(".", "").isdigit() or ":" in host
    if not local and not ipaddress.ip_address(address).is_global:
        raise OSError(f"{host} leads to {address}, an address of this machine or its network")
    return address


@dataclass(slots=True)
class Proxy:
    """Answers one command's connections. `reached` and `refused` say afterwards what was asked for."""

    keeper: Keeper
    look_up: Lookup = look_up
    reached: list[str] = field(default_factory=list[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _sent: int = 0

    async def serve(self, channel: socket.socket) -> None:
        """Wait for the sandbox to hand its listener over, and answer it until `close`."""
        channel.setblocking(False)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(channel, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(channel)
        _, handles, _, _ = socket.recv_fds(channel, 16, 1)
        if handles:
            listener = socket.socket(fileno=handles[0])
            self._server = await asyncio.start_server(self._accept, sock=listener, limit=HEAD_BYTES_MAX)

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ends = [writer]
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_S_MAX)
            method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
            host, port, rest = _target(method, target)
            name = f"{host}:{port}"
            try:
                address = await self._allowed(host, port)
                upstream = await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_S_MAX)
            except (RedlineError, OSError, TimeoutError) as error:
                why = error.message if isinstance(error, RedlineError) else str(error) or "no answer"
                self.refused[name] = why
                writer.write(
                    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n" + one_line(why, 300).encode() + b"\n"
                )
                return
            open_ends.append(upstream[1])
            self.reached.append(name)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                upstream[1].write(_forwarded(method, host, rest, head))
            await together(self._pump(reader, upstream[1], out=True), self._pump(upstream[0], writer, out=False))
        except (ValueError, OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        finally:
            for each in open_ends:
                each.close()
            for each in open_ends:
                with suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()

    async def _allowed(self, host: str, port: int) -> str:
        """Return the address to connect to; raises Blocked, OSError."""
        request = Connect(host, port)
        lines = [line.words[0] for line in self.keeper.rules.allow if line.kind == "net" and line.allows(request)]
        if port not in PORTS and not any(word.endswith(f":{port}") for word in lines):
            raise OSError(f"only ports 80 and 443 are let through, not {port}")
        self.keeper.permit(request).spend(request)
        return await asyncio.wait_for(self.look_up(host, port), CONNECT_S_MAX)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, out: bool) -> None:
        with suppress(OSError):
            while part := await reader.read(65536):
                self._sent += len(part) if out else 0
                if self._sent > BYTES_OUT_MAX:
                    return
                writer.write(part)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()


def _target(method: str, target: str) -> tuple[str, int, str]:
    """Host, port and path of a request line; raises ValueError."""
    rest = "/"
    if method == "CONNECT":
        place = target
    else:
        scheme, _, after = target.partition("://")
        if scheme.lower() != "http":
            raise ValueError(target)
        place, slash, path = after.partition("/")
        rest = slash + path or "/"
        place = place.rpartition("@")[2]
    host, colon, port = place.rpartition(":")
    if not colon:
        host, port = place, "443" if method == "CONNECT" else "80"
    return host.strip("[]").casefold().rstrip("."), int(port), rest


def _forwarded(method: str, host: str, rest: str, head: bytes) -> bytes:
    """The request in the form that an origin server expects, for the host that was allowed, one a connection."""
    lines = head.rstrip(b"\r\n").split(b"\r\n")[1:]
    kept = [each for each in lines if not each.lower().startswith((b"proxy-", b"connection:", b"host:"))]
    return b"\r\n".join(
        [f"{method} {rest} HTTP/1.1".encode(), f"Host: {host}".encode(), *kept, b"Connection: close", b"", b""]
    )
