"""The one place that starts a process: fixed argv, small environment, bounded time and output, killed as a tree.

Only Redline's own helpers are started here (its worker and ruff); nothing of the project is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redline_agent.errors import ToolError
from redline_agent.together import together

OUTPUT_BYTES_MAX = 64 * 2**20
REAP_S_MAX = 5.0
_KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended by itself: its exit code and bounded output."""

    code: int
    out: bytes
    err: bytes


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
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env={**kept, **(env or {})},
            start_new_session=sys.platform != "win32",
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} could not be started: {error}.", hint="Reinstall Redline.") from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await _talk(process, stdin)
            return Finished(await process.wait(), out, err)
    except TimeoutError as error:
        raise ToolError(f"It took more than {timeout_s:g} s and was stopped.", hint="Narrow the task.") from error
    finally:
        if process.returncode is None:
            _kill(process)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(REAP_S_MAX):
                    # wait() alone can hang: a pipe that is full and that nobody reads is never seen to end
                    await together(_emptied(process.stdout), _emptied(process.stderr))
                    await process.wait()


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
