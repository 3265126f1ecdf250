"""Make up the firings of schedules that were missed while NATS was down.

NATS fires a schedule only at its time. A firing that it was not there for is found by comparing the
times of the schedule with the firings that are recorded: at the next firing, and before that by a
sweep. A run that is made up has the idempotency key that its firing would have had, so a firing
whose job only waits for a worker starts no second run.

After an outage NATS fires an interval once, late, and counts on from there. So only that firing
tells which times were missed: a sweep before it passes over intervals.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import Final, NamedTuple, NoReturn

import msgspec
import structlog

from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.commands.schedule_commands import key_of_firing, request_of
from tailrace_shared.errors import JetStreamError, ServiceError, UnavailableError
from tailrace_shared.firings import firings_after, header_of
from tailrace_shared.nats.jobs import id_of_firing
from tailrace_shared.recurrence import Every, parse_recurrence
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
            missed = self._missed(active, last.at if last else 0.0, until)
            count += await self._start(active, islice(missed, _MAX_FIRINGS))
        return count

    async def before(self, tenant: str, schedule_id: str, at: float) -> int:
        """Start the runs missed since the last recorded firing; return their number.

        Args:
            tenant: the tenant.
            schedule_id: the schedule.
            at: the time of a firing that is not recorded yet, in seconds since the epoch.
        """
        last = (await self._firings.last(tenant, [schedule_id])).get(schedule_id)
        active = await self._schedules.get_active(tenant, schedule_id)
        if last is None or active is None:
            return 0
        if isinstance(parse_recurrence(active.schedule.cron), Every):
            if last.at < active.schedule.fires_since:
                return 0  # a firing of the schedule before it was paused or replaced
            return await self._start(active, self._missed_intervals(active, last.at, at))
        return await self._start(active, self._missed(active, last.at, at))

    async def _start(self, active: ActiveSchedule, requests: Iterable[RunRequest]) -> int:
        count = 0
        for request in requests:
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
        """Yield the requests for the firings of a cron expression between two times."""
        schedule = active.schedule
        after = max(after, schedule.fires_since, self._oldest)
        for moment, following in pairwise(firings_after(schedule.cron, schedule.time_zone, after)):
            header = header_of(following, schedule.time_zone)
            if moment >= before or header is None:
                return
            yield _request(active, moment, header)

    def _missed_intervals(
        self, active: ActiveSchedule, last: float, late: float
    ) -> Iterator[RunRequest]:
        """Yield the requests for the firings between two of an interval.

        The second firing stands for the last time that was missed.
        """
        schedule = active.schedule
        moments = firings_after(schedule.cron, None, max(last, self._oldest), phase=last)
        for moment, following in pairwise(moments):
            header = header_of(following, None)
            if following > late or header is None:
                return
            yield _request(active, moment, header)

    @property
    def _oldest(self) -> float:
        return self._clock() - self._periods.window


def _request(active: ActiveSchedule, moment: float, next_header: str) -> RunRequest:
    firing = id_of_firing(active.subject, next_header)
    key = key_of_firing(active.schedule.id, active.token, firing)
    return request_of(active.tenant, active.schedule, moment, key)
