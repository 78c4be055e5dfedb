"""A campaign's worker: its own configuration, limits, sandbox and model keys; nothing of that ever travels with a task.

`redline worker --scheduler tls://HOST:PORT --tls-ca ... ` on any machine; an embedded cluster starts it by
`python -m redline_agent.jobs.worker` with one JSON line on standard input, and it dies with that input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from redline_agent.errors import RedlineError, UsageError

START_S_MAX = 60


async def work(scheduler: str, security: Any, threads: int, *, host: str = "", folder: str = "") -> None:
    """Work for a scheduler until it has gone; raises RedlineError when it cannot be reached."""
    from redline_agent.jobs.engine import BareWorker, prepare

    prepare()
    where: dict[str, Any] = {"host": host} if host else {}
    with tempfile.TemporaryDirectory(prefix="redline-worker-", dir=folder or None) as local:
        try:
            async with BareWorker(
                scheduler, security=security, nthreads=threads, protocol="tls://", memory_limit=0,
                death_timeout=START_S_MAX, local_directory=local, **where,
            ) as worker:  # fmt: skip
                await worker.finished()
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise RedlineError(f"The scheduler {scheduler} cannot be worked for: {error}.") from error


async def schedule(host: str, port: int, security: Any) -> None:
    """Be a scheduler until it is interrupted; raises UsageError when the place is taken."""
    from redline_agent.jobs.engine import DEATHS_MAX, BareScheduler, prepare

    prepare()
    try:
        scheduler: Any = await BareScheduler(
            host=host, port=port, protocol="tls://", security=security, dashboard=False, allowed_failures=DEATHS_MAX
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"No scheduler can listen on {host}:{port}: {error}.") from error
    sys.stdout.write(f"{scheduler.address}\n")
    sys.stdout.flush()
    try:
        await scheduler.finished()
    finally:
        await scheduler.close()


def main() -> None:
    """Be a worker of an embedded cluster."""
    given = json.loads(sys.stdin.buffer.readline())

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)  # whoever started this has gone

    threading.Thread(target=watch, daemon=True).start()
    from redline_agent.jobs import carrying
    from redline_agent.jobs.certificates import security

    carrying.PLACE["folder"] = Path(given["folder"])
    own = security(given["ca"], *given["keys"])
    asyncio.run(work(given["scheduler"], own, int(given["threads"]), host="127.0.0.1", folder=given["folder"]))


if __name__ == "__main__":
    main()
