"""The sweeper: gives a job to every execution that has lost its own.

In good order an execution that can go on has a job or a timer. What breaks that order is a process
that dies between two steps (a command appended, its job not published) and a message that is gone
(a schedule purged, a job that became a dead letter). All of them leave an overdue entry in the due
index, and that is where the sweeper looks; what waits in good order costs it a line read.

Only what is certain to be lost gets a job: the entry is overdue, nothing was written for a while,
the job cannot be among those that the queue has yet to hand out, and the last worker does not
say that it drives the execution. A job too many would be harmless, but a queue that is merely
long must not be made longer.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    JetStreamError,
    NewerLogError,
    UnavailableError,
)
from tailrace_shared.execution.events import TERMINAL
from tailrace_shared.execution.state import IllegalEventError
from tailrace_shared.stores.execution_log import Commit
from tailrace_shared.stores.indexes.due_index import Due
from tailrace_shared.stores.stores import Stores
from tailrace_worker.engine.recovery.interval_lease import IntervalLease

#: How long an execution may be overdue, in seconds: timers fire late, and jobs take their time.
GRACE: Final = 30.0
#: How long an entry may be there before the log that it is about, in seconds.
CREATION: Final = 60.0

_DUTY: Final = "sweeper"
_AT_ONCE: Final = 32

_log = structlog.get_logger(__name__)


class Fleet(NamedTuple):
    """What the sweeper asks of the workers.

    Attributes:
        is_driving: whether a worker (id) drives an execution (tenant, id) now.
        jobs: publishes the job of an execution.
        oldest_waiting: when the first job that nobody has been given yet was stored, or None.
    """

    is_driving: Callable[[str, str, str], Awaitable[bool]]
    jobs: JobPublisher
    oldest_waiting: Callable[[], Awaitable[float | None]]


class Periods(NamedTuple):
    """How often, and how patiently, the sweeper looks; in seconds.

    Attributes:
        interval: between two sweeps of the whole fleet.
        ack_wait: silence of a worker after which its jobs go to another.
    """

    interval: float
    ack_wait: float


class Sweeper:
    """One worker's sweeper. Of all workers one sweeps at a time.

    Args:
        stores: the log, the due and live indexes, and the lease of the sweeping worker.
        fleet: the workers.
        periods: how often and how patiently.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        stores: Stores,
        fleet: Fleet,
        periods: Periods,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lease = IntervalLease(stores.leases, _DUTY, periods.interval, clock)
        self._executions = stores.log
        self._due, self._live = stores.due, stores.live
        self._fleet = fleet
        self._periods = periods
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled, whatever NATS does."""
        while True:
            # Workers that started together shall not ask together for ever.
            await asyncio.sleep(self._periods.interval * random.uniform(0.9, 1.1))  # noqa: S311
            try:
                driven = await self.sweep()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("not swept", error=str(error))
                continue
            if driven:
                _log.info("drove lost executions on", executions=driven)

    async def sweep(self) -> int:
        """Look at all that is overdue, unless somebody did a moment ago.

        Returns:
            How many executions were given a job.

        Raises:
            UnavailableError: NATS did not answer.
        """
        if not await self._lease.claim():
            return 0
        oldest = await self._fleet.oldest_waiting()
        driven = 0
        async for some in self._overdue():
            results = await asyncio.gather(*(self._examine(due, oldest) for due in some))
            driven += sum(results)
        return driven

    async def _overdue(self) -> AsyncIterator[list[Due]]:
        latest = self._clock() - GRACE
        some: list[Due] = []
        async for due in self._due.entries():
            if due.by < latest and due.written_at < latest:
                some.append(due)
            if len(some) == _AT_ONCE:
                yield some
                some = []
        yield some

    async def _examine(self, due: Due, oldest_waiting: float | None) -> bool:
        """Drive an overdue execution on if its job is lost; tells whether it was."""
        if oldest_waiting is not None and oldest_waiting <= max(due.by, due.written_at) + GRACE:
            return False
        try:
            is_lost = await self._is_lost(due)
        except NewerLogError:
            return False  # the workers that can read it have sweepers, too
        except (IllegalEventError, msgspec.DecodeError) as error:
            # One log that nobody can read must not keep all others from being swept.
            _log.error("unreadable", tenant=due.tenant, execution=due.execution, error=str(error))
            return False
        if is_lost:
            await self._drive_on(due)
        return is_lost

    async def _is_lost(self, due: Due) -> bool:
        """Tell whether nobody drives what can be driven; what cannot be is struck out."""
        last = await self._executions.last_commit(due.tenant, due.execution)
        if last is None:
            # Somebody may just be about to create it.
            if due.written_at < self._clock() - CREATION:
                await self._live.remove_unknown(due.tenant, due.execution)
                await self._strike_out(due)
            return False
        if isinstance(last.events()[-1], TERMINAL):
            # Whoever ended it may have died before all was done that its end asks for. Once: what
            # breaks there must not be tried for ever.
            await self._fleet.jobs.advance(due.tenant, due.execution)
            await self._strike_out(due)
            return False
        try:
            return not await self._is_attended(due, last)
        except ExecutionNotFoundError:  # its first commits have expired
            await self._strike_out(due)
            return False

    async def _is_attended(self, due: Due, last: Commit) -> bool:
        if last.time > self._clock() - 2 * self._periods.ack_wait:
            return True
        # The API writes, too, but never drives.
        writer = last.writer
        if not writer:
            history = await self._executions.load(due.tenant, due.execution)
            writer = history.last_writer
        return bool(writer) and await self._fleet.is_driving(writer, due.tenant, due.execution)

    async def _drive_on(self, due: Due) -> None:
        _log.warning("driving on what was lost", tenant=due.tenant, execution=due.execution)
        # Written first: the next sweep then gives this job its time, too.
        await self._due.put(due.tenant, due.execution, self._clock())
        await self._fleet.jobs.advance(due.tenant, due.execution)
        if due.request is not None:
            await self._strike_out(due)

    async def _strike_out(self, due: Due) -> None:
        await self._due.remove(due.tenant, due.execution, due.revision, due.request)
