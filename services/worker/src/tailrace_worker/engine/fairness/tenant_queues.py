"""Queue the executions of tenants that have their fair share of a worker.

A job that is not admitted must not stay at the head of the work queue, where it would block the
jobs of all other tenants. Its execution joins the tenant's queue, and the job is acknowledged. When
an execution of the tenant leaves this worker, the first in the tenant's queue gets a job again.
Every second, workers with free slots also admit some: another tenant may have taken the slots
before. An execution whose new job reaches a worker without a free slot goes to the end of the
queue.

Which tenants have a queue is in a KV bucket. Workers read it when they start and every few seconds,
so a queue is emptied even if all workers that filled it are gone.
"""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable
from typing import Final

import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.stores import Stores
from tailrace_worker.engine.fairness.fair_share import FairShare

_MAX_WAIT_S: Final = 60.0
_ADMIT_INTERVAL_S: Final = 1.0
_MAX_ADMITTED_AT_ONCE: Final = 8
# In rounds of ``run``.
_REFRESH_EVERY: Final = 3

_log = structlog.get_logger(__name__)


class TenantQueues:
    """The queues of tenants that have their fair share of this worker.

    Args:
        share: decides whether a tenant may take one more slot.
        stores: the queues, the leases that name the tenants with a queue, and the due index.
        jobs: publishes the job of an execution.
        now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        share: FairShare,
        stores: Stores,
        jobs: JobPublisher,
        now: Callable[[], float],
    ) -> None:
        self._fair_share = share
        self._queue = stores.queues
        self._leases = stores.leases
        self._due = stores.due
        self._jobs = jobs
        self._now = now
        self._tenants: set[str] = set()
        self._lock = asyncio.Lock()

    async def join(self, tenant: str, execution: str) -> None:
        """Put an execution at the end of its tenant's queue.

        Raises:
            UnavailableError: NATS did not answer; the job should be tried again.
        """
        await self._due.put(tenant, execution, self._now() + _MAX_WAIT_S)
        await self._queue.join(_name(tenant), tenant, execution)
        await self._leases.put(_key(tenant), b"")
        self._tenants.add(tenant)
        # All executions of the tenant may have left this worker in the meantime, when the queue was
        # empty.
        await self.admit_next(tenant)

    async def admit_next(self, tenant: str) -> bool:
        """Publish a job for the first in a tenant's queue, if the tenant may take one more slot."""
        may_have = tenant in self._tenants and self._fair_share.admits(tenant)
        return may_have and await self._admit(tenant)

    async def run(self) -> None:
        """Admit executions from the queues while there are free slots, until cancelled."""
        for turn in itertools.count():
            if turn % _REFRESH_EVERY == 0:
                await self.refresh_tenants()
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

    async def refresh_tenants(self) -> None:
        """Read which tenants have a queue."""
        try:
            async for entry, _written_at in self._leases.scan(_key("*")):
                self._tenants.add(entry.key.rpartition(".")[2])
        except (UnavailableError, JetStreamError) as error:
            _log.warning("tenant queue: refresh failed", error=str(error))

    async def _admit(self, tenant: str) -> bool:
        try:
            async with self._lock:
                return await self._admit_next(tenant)
        except (UnavailableError, JetStreamError) as error:
            _log.warning("tenant queue: dispatch failed", tenant=tenant, error=str(error))
            return False

    async def _admit_next(self, tenant: str) -> bool:
        while (first := await self._queue.first(_name(tenant))) is not None:
            # If this worker dies before it publishes the job, the sweeper does.
            await self._due.put(*first, NOW)
            # Leave the queue first: the worker that gets the job may put the execution into the
            # queue again at once, and that entry must stay.
            if await self._queue.leave(_name(tenant), *first):
                await self._jobs.advance(*first)
                return True
            # Another worker has admitted the same one, so there is still a free slot.
        await self._forget_if_empty(tenant)
        return False

    async def _forget_if_empty(self, tenant: str) -> None:
        """Forget a queue that was empty, unless an execution has joined it since."""
        entry = await self._leases.get_newest(_key(tenant))
        if await self._queue.first(_name(tenant)) is None:
            self._tenants.discard(tenant)
            if entry is not None:
                await self._leases.purge(entry.key, entry.revision)


def _key(tenant: str) -> str:
    return f"line.{tenant}"


def _name(tenant: str) -> str:
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]
