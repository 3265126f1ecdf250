"""Make up the firings of schedules that were missed while NATS was down.

NATS fires a schedule only at its time. A firing that it was not there for is found by comparing the
times of the cron expression with the firings that are recorded: at the next firing, and before that
by a sweep. A run that is made up has the idempotency key that its firing would have had, so a
firing whose job only waits for a worker starts no second run.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice, pairwise
from typing import Final, NamedTuple, NoReturn

import msgspec
import structlog

from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.commands.schedule_commands import key_of_firing, request_of
from tailrace_shared.errors import JetStreamError, ServiceError, UnavailableError
from tailrace_shared.firings import firings_after, header_of
from tailrace_shared.nats.jobs import id_of_firing
from tailrace_shared.stores.firing_store import FiringStore
from tailrace_shared.stores.schedule_store import ActiveSchedule, ScheduleStore
from tailrace_worker.engine.recovery.interval_lease import IntervalLease

CATCH_UP_DUTY: Final = "catch-up"
# A firing that is younger may be on its way.
_GRACE_S: Final = 10.0
# Firings of one schedule in one sweep; the next sweep goes on from there.
_MAX_FIRINGS: Final = 100

_log = structlog.get_logger(__name__)


class CatchUpPeriods(NamedTuple):
    """The time between two sweeps of the fleet, and how far back they look, in seconds."""

    interval: float
    window: float


class CatchUp:
    """Compares schedules with their last firings, once an interval.

    Args:
        start_run: starts a run, once for each idempotency key, and records the firing.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self,
        schedules: ScheduleStore,
        firings: FiringStore,
        start_run: Callable[[RunRequest], Awaitable[None]],
        lease: IntervalLease,
        periods: CatchUpPeriods,
        clock: Callable[[], float],
    ) -> None:
        self._schedules = schedules
        self._firings = firings
        self._start_run = start_run
        self._lease = lease
        self._periods = periods
        self._clock = clock

    async def run(self) -> NoReturn:
        while True:
            # Workers that started together should not claim the lease together.
            await asyncio.sleep(self._periods.interval * random.uniform(0.9, 1.1))  # noqa: S311
            try:
                count = await self.sweep() if await self._lease.claim() else 0
            except (UnavailableError, JetStreamError, msgspec.DecodeError) as error:
                _log.warning("catch-up: sweep failed", error=str(error))
                continue
            if count:
                _log.info("catch-up: started missed runs", count=count)

    async def sweep(self) -> int:
        """Start the runs of the missed firings since the last one; return their number."""
        count, until = 0, self._clock() - _GRACE_S
        async for active in self._schedules.active():
            schedule = active.schedule
            last = (await self._firings.last(active.tenant, [schedule.id])).get(schedule.id)
            count += await self._start(active, last.at if last else 0.0, until)
        return count

    async def between(self, tenant: str, schedule_id: str, after: float, before: float) -> int:
        """Start the runs of the firings between two that are recorded; return their number."""
        active = await self._schedules.get_active(tenant, schedule_id)
        return 0 if active is None else await self._start(active, after, before)

    async def _start(self, active: ActiveSchedule, after: float, before: float) -> int:
        count = 0
        for request in self._missed(active, after, before):
            try:
                await self._start_run(request)
            except UnavailableError:
                raise
            except ServiceError as error:
                schedule = active.schedule.id
                _log.warning("catch-up: start refused", schedule=schedule, error=str(error))
                break
            count += 1
        return count

    def _missed(self, active: ActiveSchedule, after: float, before: float) -> Iterator[RunRequest]:
        schedule = active.schedule
        after = max(after, schedule.fires_since, self._clock() - self._periods.window)
        moments = firings_after(schedule.cron, schedule.time_zone, after)
        for moment, following in pairwise(islice(moments, _MAX_FIRINGS + 1)):
            header = header_of(following, schedule.time_zone)
            if moment >= before or header is None:
                return
            firing = id_of_firing(active.subject, header)
            key = key_of_firing(schedule.id, active.token, firing)
            yield request_of(active.tenant, schedule, moment, key)
