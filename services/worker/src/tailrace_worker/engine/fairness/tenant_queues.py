"""Where executions stand while their tenant has its share of this worker.

A job that is not admitted may not stay at the head of the queue, where it would hold up everybody
behind it: its execution joins the tenant's line, and the job is over. Whenever an execution of
the tenant is over here, the first in its line gets a job again. Every second some are called all
the same by workers that have room: what took it up may have been another tenant's. Who meets no
room then, because its job has come to another worker, goes to the end of the line.

Which tenants have a line is told by a bucket. Workers look there when they start and every few
seconds, so a line is emptied although all that have put somebody into it are gone.
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

_LONGEST_WAIT: Final = 60.0
_OFFER_INTERVAL: Final = 1.0
_OFFERED_AT_ONCE: Final = 8
# In offers: how often to look which tenants have a line.
_LOOK_EVERY: Final = 3

_log = structlog.get_logger(__name__)


class TenantQueues:
    """The lines of the tenants that have more to do than this worker may do for them at once.

    Args:
        share: who may have how much.
        stores: the queues, the leases that name the tenants with a queue, and the due index.
        jobs: publishes the job of an execution.
        now: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        share: FairShare,
        stores: Stores,
        jobs: JobPublisher,
        now: Callable[[], float],
    ) -> None:
        self._share = share
        self._line = stores.queues
        self._leases = stores.leases
        self._due = stores.due
        self._jobs = jobs
        self._now = now
        self._known: set[str] = set()
        self._calling = asyncio.Lock()

    async def join(self, tenant: str, execution: str) -> None:
        """Put an execution at the end of its tenant's line.

        Raises:
            UnavailableError: NATS did not answer; the job should be tried again.
        """
        await self._due.put(tenant, execution, self._now() + _LONGEST_WAIT)
        await self._line.join(_name(tenant), tenant, execution)
        await self._leases.put(_key(tenant), b"")
        self._known.add(tenant)
        # All of its executions may have ended meanwhile, and found nobody to call.
        await self.call_next(tenant)

    async def call_next(self, tenant: str) -> bool:
        """Give a job to the first in a tenant's line, if it may have one more."""
        may_have = tenant in self._known and self._share.admits(tenant)
        return may_have and await self._call(tenant)

    async def run(self) -> None:
        """Call those who stand in the lines while there is room, now and then, until cancelled."""
        for turn in itertools.count():
            if turn % _LOOK_EVERY == 0:
                await self.look()
            await self.call_some()
            await asyncio.sleep(_OFFER_INTERVAL)

    async def call_some(self) -> None:
        """Call as many as there is room for: who is called in vain loses their turn."""
        room = self._share.free
        for tenant in random.sample(sorted(self._known), len(self._known)):
            for _ in range(min(room, _OFFERED_AT_ONCE)):
                if not await self.call_next(tenant):
                    break
                room -= 1

    async def look(self) -> None:
        """Learn which tenants have a line."""
        try:
            async for entry, _written_at in self._leases.scan(_key("*")):
                self._known.add(entry.key.rpartition(".")[2])
        except (UnavailableError, JetStreamError) as error:
            _log.warning("not looked for lines", error=str(error))

    async def _call(self, tenant: str) -> bool:
        try:
            async with self._calling:
                return await self._call_next(tenant)
        except (UnavailableError, JetStreamError) as error:
            _log.warning("nobody called", tenant=tenant, error=str(error))
            return False

    async def _call_next(self, tenant: str) -> bool:
        while (first := await self._line.first(_name(tenant))) is not None:
            # If its caller dies, the sweeper sees to it that it gets a job.
            await self._due.put(*first, NOW)
            # Out of the line first: whoever gets the job may have it stand in line again at once,
            # and that place must stay.
            if await self._line.leave(_name(tenant), *first):
                await self._jobs.advance(*first)
                return True
            # Another worker has called the same one: then there is still room for one more.
        await self._forget(tenant)
        return False

    async def _forget(self, tenant: str) -> None:
        """Strike out a line that was empty, unless somebody has joined it since."""
        entry = await self._leases.get_newest(_key(tenant))
        if await self._line.first(_name(tenant)) is None:
            self._known.discard(tenant)
            if entry is not None:
                await self._leases.purge(entry.key, entry.revision)


def _key(tenant: str) -> str:
    return f"line.{tenant}"


def _name(tenant: str) -> str:
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]
