"""The right to decide over a workspace folder: held by one process at a time, gone with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from filelock import AsyncFileLock, FileLock, Timeout

from redline_agent.errors import ReviewError

WAIT_S = 10.0


def lease_of(journal: Path) -> Path:
    """Return the place of the lease of a folder, beside its journal."""
    return journal.with_suffix(".lease")


@contextmanager
def leased(path: Path, wait_s: float = WAIT_S) -> Generator[None]:
    """Hold the lease for a block; raises ReviewError when another process holds it for longer than that."""
    try:
        with FileLock(path, timeout=wait_s, mode=0o600):
            yield
    except Timeout as error:
        raise _held() from error


@asynccontextmanager
async def leased_here(path: Path, wait_s: float = WAIT_S) -> AsyncGenerator[None]:
    """Hold the lease for a block of the event loop; raises ReviewError as `leased` does."""
    try:
        async with AsyncFileLock(path, timeout=wait_s, mode=0o600):
            yield
    except Timeout as error:
        raise _held() from error


def _held() -> ReviewError:
    return ReviewError(
        "Another editor or terminal is accepting changes in this folder.", hint="Wait for it, then try again."
    )
