"""What a campaign's targets are handed to: dask.distributed, embedded (a scheduler in this process, workers of our own
beside it) or a scheduler that runs somewhere. Every connection is mutual TLS; there is no dashboard and no HTTP.

Imported with the first campaign: it brings distributed with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from dask import config as dask_config
from distributed import Client, Scheduler, Worker

from redline_agent.errors import RedlineError, UsageError
from redline_agent.jobs.carrying import carry
from redline_agent.jobs.certificates import EPHEMERAL_DAYS, made, security
from redline_agent.safety.process import Helper, start_own

CONNECT_S_MAX = 20.0
DEATHS_MAX = 0
"""How often a scheduler gives a task to another worker by itself: the campaign decides what is tried again, and how."""
RESPAWNS_A_MINUTE_MAX = 60
DESERTED_S_MAX = 60.0
"""How long a campaign waits for some worker to be there."""
_WATCH_EVERY_S, _LOOK_EVERY_S = 0.2, 2.0
SETTINGS = {
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.comm.timeouts.connect": f"{CONNECT_S_MAX:g}s",
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.worker-ttl": "30s",
}


class SchedulerLost(RedlineError):
    """The scheduler has gone; what the coordinator acknowledged is kept."""


class WorkerDied(RedlineError):
    """The worker has gone that had a target, or was to have it."""


class _NoHTTP:
    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none."""


class BareScheduler(_NoHTTP, Scheduler):  # pyright: ignore[reportIncompatibleMethodOverride]  its own signature is untyped
    """A scheduler without HTTP."""


class BareWorker(_NoHTTP, Worker):  # pyright: ignore[reportIncompatibleMethodOverride]  as above
    """A worker without HTTP."""


def prepare() -> None:
    """Set what distributed reads from its configuration, and have it say nothing below what matters to us."""
    dask_config.set(SETTINGS)  # pyright: ignore[reportUnknownMemberType]  untyped
    for name in ("distributed", "distributed.client", "distributed.protocol.core", "tornado", "tornado.application"):
        logging.getLogger(name).setLevel(100)


class Engine:
    """Where targets are carried out."""

    def __init__(self, client: Any, security_: Any, slots: int, *, alone: bool) -> None:
        self._client = client
        self.security = security_
        self.slots = slots
        self.alone = alone
        """Whether each worker has one target at a time, so that what it dies of is that one's."""
        self._numbers = 0
        self._deserted = asyncio.Event()

    async def look(self) -> None:
        """See whether there are workers, until cancelled."""
        missing_s = 0.0
        while missing_s < DESERTED_S_MAX:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                there = bool(await self._client.nthreads())
            except Exception:  # noqa: BLE001  whatever it is: nobody answers
                there = False
            missing_s = 0.0 if there else missing_s + _LOOK_EVERY_S
        self._deserted.set()

    async def carry_out(self, payload: dict[str, str]) -> dict[str, Any]:
        """Have one target carried out; raises SchedulerLost, WorkerDied, and whatever else ended it."""
        self._numbers += 1
        key = f"redline-{payload['campaign']}-{payload['target']}-{self._numbers}"
        try:
            future = self._client.submit(carry, json.dumps(payload), key=key, pure=False)
            result, deserted = asyncio.ensure_future(future.result()), asyncio.create_task(self._deserted.wait())
            try:
                await asyncio.wait({result, deserted}, return_when=asyncio.FIRST_COMPLETED)
                if not result.done():
                    raise SchedulerLost("No worker is left.")
                return json.loads(result.result())
            finally:
                deserted.cancel()
                result.cancel()
                await asyncio.gather(result, deserted, return_exceptions=True)
                future.release()
        except SchedulerLost:
            raise
        except Exception as error:
            names = {each.__name__ for each in type(error).__mro__}
            if names & {"FutureCancelledError", "ClosedClientError", "CommClosedError"}:
                raise SchedulerLost("The scheduler is lost.") from error
            if "KilledWorker" in names:
                raise WorkerDied("its worker died") from error
            raise


@asynccontextmanager
async def embedded(workers: int, threads: int, folder: Path) -> AsyncGenerator[Engine]:
    """Start a scheduler here and workers beside it, on loopback, with keys that nobody else ever has."""
    prepare()
    authority, leaves = made(("campaign", "worker"), EPHEMERAL_DAYS)
    own = security(authority, *leaves["campaign"])
    scheduler: Any = await BareScheduler(
        host="127.0.0.1", port=0, protocol="tls://", security=own, dashboard=False, allowed_failures=DEATHS_MAX
    )
    given = {"scheduler": scheduler.address, "threads": threads, "ca": authority, "keys": leaves["worker"],
             "folder": str(folder)}  # fmt: skip
    crew = Crew(given, folder, workers)
    client: Any = None
    try:
        await crew.begin()
        client = await Client(scheduler.address, security=own, asynchronous=True, set_as_default=False)
        async with asyncio.timeout(CONNECT_S_MAX):
            await client.wait_for_workers(1)
        async with _watched(Engine(client, own, workers * threads, alone=threads == 1)) as engine:
            yield engine
    except TimeoutError as error:
        raise RedlineError("No worker could be started.", hint="See: redline doctor") from error
    finally:
        await crew.end()
        if client is not None:
            await client.close()
        await scheduler.close()


@asynccontextmanager
async def _watched(engine: Engine) -> AsyncGenerator[Engine]:
    looking = asyncio.create_task(engine.look())
    try:
        yield engine
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


class Crew:
    """The workers of an embedded cluster; one that dies is replaced."""

    def __init__(self, given: dict[str, Any], folder: Path, count: int) -> None:
        self._line = json.dumps(given).encode() + b"\n"
        self._folder = folder
        self._helpers: list[Helper] = []
        self._count = count
        self._respawned: deque[float] = deque()
        self._watch: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [each.pid for each in self._helpers]

    async def begin(self) -> None:
        """Start them all."""
        for _ in range(self._count):
            self._helpers.append(await self._one())
        self._watch = asyncio.create_task(self._replace())

    async def _one(self) -> Helper:
        argv = [sys.executable, "-P", "-m", "redline_agent.jobs.worker"]
        return await start_own(argv, cwd=self._folder, first=self._line)

    async def _replace(self) -> None:
        while not self._ending.is_set():
            for at, helper in enumerate(self._helpers):
                while self._respawned and self._respawned[0] < time.monotonic() - 60:
                    self._respawned.popleft()
                if helper.ended and len(self._respawned) < RESPAWNS_A_MINUTE_MAX:
                    self._respawned.append(time.monotonic())
                    await helper.stop()  # lets go of its pipes
                    with suppress(RedlineError):  # it is tried again
                        self._helpers[at] = await self._one()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _WATCH_EVERY_S)

    async def end(self) -> None:
        """End them all."""
        self._ending.set()
        if self._watch is not None:
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(helper.stop() for helper in self._helpers), return_exceptions=True)


@asynccontextmanager
async def remote(address: str, own: Any) -> AsyncGenerator[Engine]:
    """Use a scheduler that runs somewhere."""
    if not address.startswith("tls://"):
        raise UsageError(f"The scheduler {address} is not reached by mutual TLS.", hint="Give tls://HOST:PORT.")
    prepare()
    try:
        client: Any = await Client(
            address, security=own, asynchronous=True, set_as_default=False, timeout=CONNECT_S_MAX
        )
    except (OSError, TimeoutError) as error:
        raise RedlineError(f"The scheduler {address} cannot be reached: {error}.") from error
    try:
        threads: dict[str, int] = await client.nthreads()
        if not threads:
            raise RedlineError(f"The scheduler {address} has no workers.", hint="Start some: redline worker --help")
        alone = all(count == 1 for count in threads.values())
        async with _watched(Engine(client, own, sum(threads.values()), alone=alone)) as engine:
            yield engine
    finally:
        await client.close()
