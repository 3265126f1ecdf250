"""A hub on a NATS in memory, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

from nats.aio.client import Client

from harness.memory_client import MemoryClient
from harness.memory_nats import MemoryNats
from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.fanout.hub import Hub, StreamLimits, StreamTimes
from tailrace_api.fanout.resume import Start, resume
from tailrace_api.fanout.source import LiveSource
from tailrace_api.fanout.topic import RingBounds
from tailrace_api.fanout.view import View
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.subjects import LogFilter, Subjects

TIMES = StreamTimes(heartbeat=15.0, retry=2.0, stall=30.0, age=0.0)
LIMITS = StreamLimits(10_000, 10_000, 512, 2**28, RingBounds(4096, 4 * 1024 * 1024))

# The time of day when virtual time begins.
_BEGINNING = 1_700_000_000


class MemoryHub(NamedTuple):
    """A hub and what it stands on."""

    hub: Hub
    log: ExecutionLog
    nats: MemoryNats

    async def open(
        self, execution: str = "e", last_event_id: str = "", dialect: Dialect = EXECUTION
    ) -> MemoryClient:
        """Open the stream of an execution, as the route does."""
        client = MemoryClient()
        await self.connect(client, execution, last_event_id, dialect)
        return client

    async def connect(
        self,
        client: MemoryClient,
        execution: str = "e",
        last_event_id: str = "",
        dialect: Dialect = EXECUTION,
    ) -> Start:
        """Have a client read the stream of an execution; returns where it started."""
        view = View(dialect, LogFilter("t", execution))
        start = await resume(self.log, self.hub, view, last_event_id)
        if not start.is_over:
            await client.connect(self.hub, view, start)
        return start

    async def settled(self, *sizes: int) -> None:
        """Wait until the hub holds just so many connections, topics and subscriptions."""
        while self.hub.sizes != sizes:  # noqa: ASYNC110  # production code needs no event here
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def memory_hub(
    nats: MemoryNats, times: StreamTimes = TIMES, limits: StreamLimits = LIMITS, **changes: Any
) -> AsyncIterator[MemoryHub]:
    """Run a hub; ``changes`` are fields of its times or limits."""
    subjects = Subjects()
    log = ExecutionLog(nats, subjects)
    hub = Hub(
        log,
        LiveSource(cast("Client", nats)),
        subjects,
        (await log.edge()).epoch,
        times._replace(**{name: changes[name] for name in changes if name in times._fields}),
        limits._replace(**{name: changes[name] for name in changes if name in limits._fields}),
    )
    hub.wall = lambda: _BEGINNING + hub.now()
    tasks = [asyncio.create_task(hub.watch()), asyncio.create_task(hub.tick())]
    try:
        yield MemoryHub(hub, log, nats)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
