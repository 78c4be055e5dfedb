"""The one place that starts a process: exact argv, small environment, bounded time and output, killed as a tree.

`run_helper` starts Redline's own helpers (its worker and ruff), `start_detached` what outlives this process;
`run_command` a command that a permit was given for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from redline_agent.errors import ToolError
from redline_agent.safety.permits import Permit
from redline_agent.safety.requests import Command, Server
from redline_agent.together import together

OUTPUT_BYTES_MAX = 64 * 2**20
HEAD_BYTES, TAIL_BYTES = 24_000, 16_000
"""What is kept of a command's output, which may be endless."""
REAP_S_MAX = 5.0
GENTLE_S_MAX = 25.0
_LOOK_EVERY_S = 0.02
DRAIN_S_MAX = 0.5
WATCH_EVERY_S = 0.25
_KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended by itself: its exit code and bounded output."""

    code: int
    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended, or was stopped (`stopped` says why). `out` is its output and errors as they came."""

    code: int
    out: bytes
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """How a permitted command is started: the process's argv around it, environment, folder and open file descriptors.

    `supervised`: it is the launcher, which kills what it started itself when it is told to end.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    fds: tuple[int, ...] = ()
    supervised: bool = False


async def run_helper(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    cwd: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run one of Redline's helpers; raises ToolError on time-out, TimeoutError never leaves here.

    Cancelling the caller kills the process tree.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = await _started(Start((*_dying_with_us(), *argv), {**kept, **(env or {})}, cwd), own_errors=True)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await _talk(process, stdin)
            return Finished(await process.wait(), out, err)
    except TimeoutError as error:
        raise ToolError(f"It took more than {timeout_s:g} s and was stopped.", hint="Narrow the task.") from error
    finally:
        await reaped(process)


@cache
def _dying_with_us() -> tuple[str, ...]:
    """What a helper is started by so that it dies with this process, however that dies (Linux: util-linux has it)."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


async def run_command(
    command: Command,
    permit: Permit,
    start: Start,
    *,
    timeout_s: float,
    watch: Callable[[], str] = lambda: "",
    report: Callable[[str], None] = lambda _text: None,
) -> Ran:
    """Run a permitted command; raises PermitRefused before anything starts, ToolError when it cannot start.

    It is stopped when its time is up, when it says too much, or when `watch` (asked four times a second) gives a
    reason.
    `report` is given the latest line of output. Cancelling the caller kills the process tree.
    """
    permit.spend(command)
    process = await _started(start, own_errors=False)
    output = _Output()
    stopped = ""
    waiting = asyncio.create_task(process.wait())
    reading = asyncio.create_task(output.fill(process.stdout))
    try:
        until = asyncio.get_running_loop().time() + timeout_s
        while process.returncode is None and not stopped:
            await asyncio.wait({waiting}, timeout=WATCH_EVERY_S)
            if process.returncode is not None:
                break
            report(output.latest())
            if output.size > OUTPUT_BYTES_MAX:
                stopped = f"its output was larger than {OUTPUT_BYTES_MAX:,} bytes"
            elif asyncio.get_running_loop().time() > until:
                stopped = f"it took more than {timeout_s:g} s"
            else:
                stopped = await asyncio.to_thread(watch)
        if not stopped:
            # The process has ended, its output perhaps not: what it left behind may hold the pipe open.
            await asyncio.wait({reading}, timeout=0.5)
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        return Ran(code, output.kept(), stopped)
    finally:
        reading.cancel()
        await reaped(process, gently=start.supervised)
        waiting.cancel()


@dataclass(slots=True)
class _Output:
    """Head and tail of a stream, however long it is."""

    size: int = 0
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    async def fill(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (part := await stream.read(65536)):
            self.size += len(part)
            room = HEAD_BYTES - len(self._head)
            self._head += part[:room] if room > 0 else b""
            self._tail += part[max(0, room) :]
            del self._tail[:-TAIL_BYTES]
            if self.size > OUTPUT_BYTES_MAX:
                await asyncio.sleep(0.05)  # it is about to be stopped; do not spin until then

    def latest(self) -> str:
        lines = bytes(self._tail or self._head)[-400:].decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def kept(self) -> bytes:
        cut = self.size - len(self._head) - len(self._tail)
        note = f"\n[... {cut} bytes cut ...]\n".encode() if cut > 0 else b""
        return bytes(self._head) + note + bytes(self._tail)


async def _started(start: Start, *, own_errors: bool) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *start.argv,
            stdin=asyncio.subprocess.PIPE if own_errors else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if own_errors else asyncio.subprocess.STDOUT,
            cwd=start.cwd,
            env=dict(start.env),
            start_new_session=sys.platform != "win32",
            pass_fds=start.fds,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"{start.argv[0]} could not be started: {error}.", hint="Is it installed?") from error


async def reaped(process: asyncio.subprocess.Process, *, gently: bool = False) -> None:
    """Kill the tree when it still runs, wait until it is gone, and let go of its pipes."""
    if process.returncode is None and gently:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        for _ in range(int(GENTLE_S_MAX / _LOOK_EVERY_S)):
            if process.returncode is not None:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
    if process.returncode is None:
        _kill(process)
    with contextlib.suppress(Exception):
        async with asyncio.timeout(REAP_S_MAX if process.returncode is None else DRAIN_S_MAX):
            # wait() alone can hang: a pipe that is full and that nobody reads is never seen to end
            await together(_emptied(process.stdout), _emptied(process.stderr))
            await process.wait()
    transport: asyncio.SubprocessTransport | None = getattr(process, "_transport", None)
    if transport is not None:  # what was left behind may hold the pipes open: they are closed on this side
        transport.close()


async def _talk(process: asyncio.subprocess.Process, stdin: bytes) -> tuple[bytes, bytes]:
    async def feed() -> bytes:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(stdin)
                await process.stdin.drain()
            process.stdin.close()
        return b""

    _, out, err = await together(feed(), _bounded(process.stdout), _bounded(process.stderr))
    return out, err


async def _bounded(stream: asyncio.StreamReader | None) -> bytes:
    parts: list[bytes] = []
    size = 0
    while stream is not None and (part := await stream.read(65536)):
        size += len(part)
        if size > OUTPUT_BYTES_MAX:
            raise ToolError(f"Its output is larger than {OUTPUT_BYTES_MAX:,} bytes.")
        parts.append(part)
    return b"".join(parts)


async def _emptied(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(65536):
        pass


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


class Helper:
    """One of Redline's own processes that stays: a line in, a line out. It dies with this process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def exchange(self, line: bytes) -> bytes:
        """Send a line and return the one that answers it; raises OSError when the process is gone."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BrokenPipeError("the helper has no pipes")
        stdin.write(line)
        await stdin.drain()
        answer = await stdout.readline()
        if not answer.endswith(b"\n"):
            raise BrokenPipeError("the helper ended")
        return answer

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def stop(self) -> None:
        """End the process and its tree."""
        await reaped(self._process)


async def start_helper(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Helper:
    """Start one of Redline's helpers that stays; raises ToolError. Its errors go nowhere: it answers with them."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *_dying_with_us(), *argv, cwd=cwd, env={**kept, **env}, limit=OUTPUT_BYTES_MAX,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ToolError(f"{argv[0]} could not be started: {error}.") from error
    return Helper(process)


async def start_own(argv: Sequence[str], *, cwd: Path, first: bytes) -> Helper:
    """Start a process of Redline's that works for this one and dies with it; `first` is put into its input.

    It gets this environment whole: it is Redline, with the user's keys. Raises ToolError.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=sys.platform != "win32",
        )  # fmt: skip
        if process.stdin is not None:
            process.stdin.write(first)
            await process.stdin.drain()
    except (OSError, ValueError) as error:
        raise ToolError(f"{argv[0]} could not be started: {error}.") from error
    return Helper(process)


def start_detached(argv: Sequence[str], *, stdin: bytes, cwd: Path, log: Path) -> int:
    """Start one of Redline's own processes that outlives this one; returns its id. Raises ToolError.

    It gets this environment whole (it is Redline, with the user's keys), its errors go to `log`.
    """
    try:
        with log.open("ab") as errors:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, cwd=cwd,
                start_new_session=sys.platform != "win32",
            )  # fmt: skip
        assert process.stdin is not None  # noqa: S101  it was started with a pipe
        with process.stdin:
            process.stdin.write(stdin)
    except OSError as error:
        raise ToolError(f"{argv[0]} could not be started: {error}.") from error
    threading.Thread(target=process.wait, name=f"reaping {process.pid}", daemon=True).start()
    return process.pid


async def start_server(request: Server | Command, permit: Permit, start: Start) -> asyncio.subprocess.Process:
    """Start a permitted tool server with pipes; raises PermitRefused before anything starts, ToolError."""
    permit.spend(request)
    try:
        return await asyncio.create_subprocess_exec(
            *start.argv, cwd=start.cwd, env=dict(start.env), pass_fds=start.fds, limit=OUTPUT_BYTES_MAX,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ToolError(f"{start.argv[0]} could not be started: {error}.") from error
