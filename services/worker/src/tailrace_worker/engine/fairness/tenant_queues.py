"""Queue the executions of tenants that have their fair share of a worker.

A job that is not admitted must not stay at the head of the work queue, where it would block the
jobs of all other tenants. Its execution joins the tenant's queue, and the job is acknowledged
(``job_gate``). When a job of the tenant ends on this worker, the first in the tenant's queue gets a
job again. Every second, workers with free slots also admit some: another tenant may have taken the
slots before. An execution whose new job reaches a worker without a free slot goes to the end of the
queue.

Which tenants have a queue is in a KV bucket. Workers read it when they start and every second, so a
queue is emptied even if all workers that filled it are gone.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import share_queue
from tailrace_worker.engine.fairness.fair_share import FairShare

_ADMIT_INTERVAL_S: Final = 1.0
_MAX_ADMITTED_AT_ONCE: Final = 8

_log = structlog.get_logger(__name__)


class TenantQueues:
    """The queues of tenants that have their fair share of this worker.

    Args:
        share: decides whether a tenant may take one more slot.
        stores: the queues, the leases that name the tenants with a queue, and the due index.
        jobs: publishes the job of an execution.
    """

    def __init__(self, share: FairShare, stores: Stores, jobs: JobPublisher) -> None:
        self._fair_share = share
        self._queue = stores.queues
        self._leases = stores.leases
        self._due = stores.due
        self._jobs = jobs
        self._tenants: set[str] = set()
        self._lock = asyncio.Lock()
        # Executions that have left their queue, and whose job is not published yet.
        self._admitted: deque[tuple[str, str]] = deque()
        self._outage_log = LogThrottle()
        # Jobs of a tenant that have ended while its next executions are being admitted.
        self._ended: dict[str, int] = {}
        self._admitting: set[asyncio.Task[None]] = set()

    def has_queue(self, tenant: str) -> bool:
        """Return whether a tenant has a queue, as far as this worker knows. From any thread."""
        return tenant in self._tenants

    async def join(self, executions: Sequence[tuple[str, str]]) -> None:
        """Put executions (tenant, id) at the end of their tenants' queues, in this order.

        The sweeper leaves executions alone that are in a queue.

        Raises:
            UnavailableError: NATS did not answer; the jobs should be tried again.
        """
        await asyncio.gather(
            *(self._queue.join(share_queue(tenant), tenant, each) for tenant, each in executions)
        )
        tenants = {tenant for tenant, _ in executions}
        # After the queue has got them: a worker that finds a queue empty removes the lease.
        await asyncio.gather(*(self._leases.put(_key(tenant), b"") for tenant in tenants))
        self._tenants |= tenants
        # All jobs of a tenant may have ended on this worker meanwhile, when the queue was empty.
        for tenant in tenants:
            await self.admit_next(tenant)

    async def is_queued(self, tenant: str, execution: str) -> bool:
        """Return whether an execution is in its tenant's queue.

        Raises:
            UnavailableError: NATS did not answer.
        """
        return await self._queue.has(share_queue(tenant), tenant, execution)

    def admit_soon(self, tenant: str) -> None:
        """Have one execution of a tenant admitted, because one of its jobs has ended.

        Jobs may end faster than executions leave a queue. No more than there are slots count.
        """
        if not self._may_admit(tenant):
            return
        if tenant in self._ended:
            self._ended[tenant] = min(self._ended[tenant] + 1, self._fair_share.slots)
            return
        self._ended[tenant] = 1
        task = asyncio.get_running_loop().create_task(self._admit_for_ended(tenant))
        self._admitting.add(task)
        task.add_done_callback(self._admitting.discard)

    async def _admit_for_ended(self, tenant: str) -> None:
        try:
            while self._ended[tenant] and tenant in self._tenants:
                self._ended[tenant] -= 1
                await self._admit(tenant)
        finally:
            del self._ended[tenant]

    async def admit_next(self, tenant: str) -> bool:
        """Publish a job for the first in a tenant's queue, if the tenant may take one more slot."""
        return self._may_admit(tenant) and await self._admit(tenant)

    def _may_admit(self, tenant: str) -> bool:
        return tenant in self._tenants and self._fair_share.admits(tenant)

    async def run(self) -> None:
        """Admit executions from the queues while there are free slots, until cancelled."""
        while True:
            await self.refresh_tenants()
            await self.publish_admitted()
            await self.admit_waiting()
            await asyncio.sleep(_ADMIT_INTERVAL_S)

    async def admit_waiting(self) -> None:
        """Admit only as many as there are free slots: others would lose their turn."""
        free = self._fair_share.free
        for tenant in random.sample(sorted(self._tenants), len(self._tenants)):
            for _ in range(min(free, _MAX_ADMITTED_AT_ONCE)):
                if not await self.admit_next(tenant):
                    break
                free -= 1

    async def publish_admitted(self) -> None:
        """Publish the jobs that could not be published when their executions left the queues."""
        try:
            async with self._lock:
                await self._publish_admitted()
        except (UnavailableError, JetStreamError) as error:
            self._report(error)

    async def _publish_admitted(self) -> None:
        while self._admitted:
            await self._jobs.advance(*self._admitted[0])
            self._admitted.popleft()

    async def refresh_tenants(self) -> None:
        """Read which tenants have a queue."""
        try:
            async for entry, _written_at in self._leases.scan(_key("*")):
                self._tenants.add(entry.key.rpartition(".")[2])
        except (UnavailableError, JetStreamError) as error:
            if self._outage_log.is_due():
                _log.warning("tenant queue: refresh failed", error=str(error))

    async def _admit(self, tenant: str) -> bool:
        try:
            async with self._lock:
                return await self._admit_next(tenant)
        except (UnavailableError, JetStreamError) as error:
            self._report(error)
            return False

    def _report(self, error: Exception) -> None:
        if self._outage_log.is_due():
            _log.warning("tenant queue: dispatch failed", error=str(error))

    async def _admit_next(self, tenant: str) -> bool:
        while (first := await self._queue.first(share_queue(tenant))) is not None:
            # If this worker dies before it publishes the job, the sweeper does.
            await self._due.put(*first, NOW)
            # Leave the queue first: the worker that gets the job may put the execution into the
            # queue again at once, and that entry must stay.
            try:
                has_left = await self._queue.leave(share_queue(tenant), *first)
            except UnavailableError:
                # It may have left. A job too many finds nothing to do.
                self._admitted.append(first)
                raise
            if has_left:
                self._admitted.append(first)
                await self._publish_admitted()
                return True
            # Another worker has admitted the same one, so there is still a free slot.
        await self._forget_if_empty(tenant)
        return False

    async def _forget_if_empty(self, tenant: str) -> None:
        """Forget a queue that was empty, unless an execution has joined it since."""
        entry = await self._leases.get_newest(_key(tenant))
        if await self._queue.first(share_queue(tenant)) is None:
            self._tenants.discard(tenant)
            if entry is not None:
                await self._leases.purge(entry.key, entry.revision)


def _key(tenant: str) -> str:
    return f"line.{tenant}"
