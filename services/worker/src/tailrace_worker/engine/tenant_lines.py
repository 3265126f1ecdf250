"""Where executions stand while their tenant has its share of this worker.

A job that is not admitted may not stay at the head of the queue, where it would hold up everybody
behind it: its execution joins the tenant's line, and the job is over. Whenever an execution of
the tenant is over here, the first in its line gets a job again. Some are called every second all
the same: other workers may have room, and what takes up this one's may be another tenant's. Who
meets no room then goes to the end of the line. Should nobody be left to call it, because the
workers that knew of the line are gone, the due index has it found.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tailrace_shared.due_index import DueIndex
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.line import Line
from tailrace_worker.engine.share import FairShare

_LONGEST_WAIT: Final = 60.0
_OFFER_INTERVAL: Final = 1.0
_OFFERED_AT_ONCE: Final = 8

_log = structlog.get_logger(__name__)


class TenantLines:
    """The lines of the tenants that have more to do than this worker may do for them at once.

    Args:
        share: who may have how much.
        line: where they stand.
        due: by when somebody must have looked at them.
        advance: gives an execution (tenant, id) to the workers.
        now: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        share: FairShare,
        line: Line,
        due: DueIndex,
        advance: Callable[[str, str], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._share = share
        self._line = line
        self._due = due
        self._advance = advance
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
        self._known.add(tenant)
        # All of its executions may have ended meanwhile, and found nobody to call.
        await self.call_next(tenant)

    async def call_next(self, tenant: str) -> None:
        """Give a job to the first in a tenant's line, if it may have one more."""
        if tenant in self._known and self._share.admits(tenant):
            await self._call(tenant)

    async def run(self) -> None:
        """Offer those who stand in the lines to other workers, now and then, until cancelled."""
        while True:
            await asyncio.sleep(_OFFER_INTERVAL)
            for tenant in list(self._known):
                for _ in range(_OFFERED_AT_ONCE):
                    if tenant in self._known:
                        await self._call(tenant)

    async def _call(self, tenant: str) -> None:
        try:
            async with self._calling:
                await self._call_next(tenant)
        except (UnavailableError, JetStreamError) as error:
            _log.warning("nobody called", tenant=tenant, error=str(error))

    async def _call_next(self, tenant: str) -> None:
        while (first := await self._line.first(_name(tenant))) is not None:
            # Out of the line first: whoever gets the job may have it stand in line again at once,
            # and that place must stay. If nobody gets one, the sweeper sees to it.
            if await self._line.leave(_name(tenant), *first):
                await self._advance(*first)
                return
            # Another worker has called the same one: then there is still room for one more.
        self._known.discard(tenant)


def _name(tenant: str) -> str:
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]
