"""A hub on a NATS in memory, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, cast

from nats.aio.client import Client

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import Multiplex
from tailrace_api.fanout.history.resume import Start, resume
from tailrace_api.fanout.history.set_resume import resume_set
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.runtime.limits import RingBounds, StreamLimits, StreamTimes
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.snapshots import Indexes, Snapshots
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.topic import TopicSources
from tailrace_api.fanout.views.view import View
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import HORIZONS
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import StartIndex
from tailrace_shared.stores.indexes.waiting_index import WaitingIndex
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import LogFilter, Subjects

TIMES = StreamTimes(heartbeat=15.0, retry=2.0, stall=30.0, age=0.0)
LIMITS = StreamLimits(
    10_000, 10_000, 512, 2**28, RingBounds(4096, 4 * 1024 * 1024), topics=2**29, tenant_topics=2**28
)

# The wall-clock time at which virtual time begins.
_START_TIME = 1_700_000_000


class MemoryHub(NamedTuple):
    """A hub and the parts that it uses."""

    hub: Hub
    log: ExecutionLog
    nats: MemoryNats
    snapshots: Snapshots

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
        """Connect a client to the stream of an execution; return its start."""
        return await self.follow(client, View(dialect, LogFilter("t", execution)), last_event_id)

    async def follow(self, client: MemoryClient, view: View, last_event_id: str = "") -> Start:
        """Connect a client to a view, as the routes do; return its start."""
        if view.part.execution:
            start = await resume(self.hub.history, view, last_event_id)
        elif isinstance(view.dialect, Multiplex):
            start = await resume_set(self.hub.history, view, last_event_id)
        else:
            start = await resume_tenant(self.hub.history, view, last_event_id)
        if not start.is_over:
            await client.connect(self.hub, view, start)
        return start

    async def settled(self, *sizes: int) -> None:
        """Wait until the hub has exactly these numbers of connections, topics and subscriptions."""
        while self.hub.sizes != sizes:  # noqa: ASYNC110  # production code needs no event here
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def memory_hub(
    nats: MemoryNats, times: StreamTimes = TIMES, limits: StreamLimits = LIMITS, **changes: Any
) -> AsyncIterator[MemoryHub]:
    """Run a hub; ``changes`` are fields of its times or limits."""
    subjects = Subjects()
    log = ExecutionLog(nats, subjects)
    contexts = Contexts(log, 2**20)
    indexes = Indexes(
        LiveIndex(nats, subjects),
        ResultIndex(nats, subjects),
        WaitingIndex(nats, subjects),
        WorkflowStore(nats, subjects),
        StartIndex(nats, subjects),
        RunIndex(nats, subjects),
        StatsStore(nats, subjects),
    )
    snapshots = Snapshots(log, indexes, contexts)
    hub = Hub(
        TopicSources(log, contexts, snapshots, HorizonStore(Bucket(nats, HORIZONS))),
        LiveSubscription(cast("Client", nats)),
        subjects,
        (await log.edge()).epoch,
        times._replace(**{name: changes[name] for name in changes if name in times._fields}),
        limits._replace(**{name: changes[name] for name in changes if name in limits._fields}),
    )
    # In virtual time, any CPU time would look like a high load.
    hub.runtime.cpu = lambda: 0.0
    hub.runtime.wall = lambda: _START_TIME + hub.runtime.now()
    tasks = [asyncio.create_task(hub.reconcile_loop()), asyncio.create_task(hub.runtime.tick())]
    try:
        yield MemoryHub(hub, log, nats, snapshots)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def run_on_hub(scenario: Callable[[MemoryHub], Awaitable[None]], **changes: Any) -> None:
    """Run a scenario in virtual time on a hub; ``changes`` are those of :func:`memory_hub`."""

    async def main() -> None:
        async with memory_hub(MemoryNats(), **changes) as site:
            await scenario(site)

    run_in_virtual_time(main())
