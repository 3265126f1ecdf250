"""Enqueue a job for every execution that has lost its own.

As long as nothing fails, an execution that can continue has a job or a timer. It loses them when a
process dies between two writes (a command is appended, its job is not published), or when a message
is gone (a schedule was purged, a job became a dead letter). In all of these cases an overdue entry
stays in the due index, which the sweeper reads.

A job is only enqueued if the loss is certain: the entry is overdue, nothing was written for a
while, the job cannot be in the backlog of the queue, and the worker that wrote last does not answer
that it drives the execution. A job too many would be harmless, but would make a long queue longer.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Literal, NamedTuple

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
from tailrace_shared.stores.indexes.due_index import Due
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.stores import Stores
from tailrace_worker.engine.counts import EngineCounts
from tailrace_worker.engine.recovery.interval_lease import IntervalLease

#: Seconds that an execution may be overdue: timers fire late, and jobs wait in the queue.
GRACE_S: Final = 30.0
#: Seconds that an entry may be older than the log of its execution.
CREATION_GRACE_S: Final = 60.0

EntryState = Literal["lost", "waiting", "unreadable", "driven", "settled"]
"""The kinds of overdue entries.

``lost``: its job is lost. ``waiting``: the job may still be in a queue. ``unreadable``: another
version or an operator must help. ``driven``: a worker drives the execution, perhaps a long step.
``settled``: the execution needs no worker, or a client may be about to create it.
"""

_NOT_OVERDUE: Final = ("driven", "settled")
_DUTY: Final = "sweeper"
_BATCH: Final = 32

_log = structlog.get_logger(__name__)


class Fleet(NamedTuple):
    """The sweeper's access to the workers.

    Attributes:
        is_driving: whether a worker (id) drives an execution (tenant, id) now.
        oldest_waiting: when the first undelivered job was stored, in seconds since the epoch, or
            None.
    """

    is_driving: Callable[[str, str, str], Awaitable[bool]]
    is_queued: Callable[[str, str], Awaitable[bool]]
    jobs: JobPublisher
    oldest_waiting: Callable[[], Awaitable[float | None]]


class Periods(NamedTuple):
    """Periods of the sweeper, in seconds.

    Attributes:
        interval: between two sweeps of the whole fleet.
        ack_wait: silence of a worker after which JetStream redelivers its jobs.
    """

    interval: float
    ack_wait: float


class Sweeper:
    """Sweeps on this worker; a lease lets one worker sweep at a time.

    Args:
        clock: returns the time in seconds since the epoch.
        counts: where the overdue executions are counted.
    """

    def __init__(
        self,
        stores: Stores,
        fleet: Fleet,
        periods: Periods,
        clock: Callable[[], float] = time.time,
        counts: EngineCounts | None = None,
    ) -> None:
        self._counts = counts or EngineCounts()
        self._lease = IntervalLease(stores.leases, _DUTY, periods.interval, clock)
        self._executions = stores.log
        self._due, self._live = stores.due, stores.live
        self._fleet = fleet
        self._periods = periods
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled; errors of NATS are logged."""
        while True:
            # Workers that started together must not sweep together for ever.
            await asyncio.sleep(self._periods.interval * random.uniform(0.9, 1.1))  # noqa: S311
            try:
                enqueued = await self.sweep()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("sweep: failed", error=str(error))
                continue
            if enqueued:
                _log.info("sweep: re-enqueued executions", count=enqueued)

    async def sweep(self) -> int:
        """Examine all overdue entries, unless another worker did within this interval.

        Returns:
            The number of executions that were given a job.
        """
        if not await self._lease.claim():
            self._counts.overdue = 0
            return 0
        oldest = await self._fleet.oldest_waiting()
        enqueued = overdue = 0
        async for batch in self._overdue():
            results = await asyncio.gather(*(self._examine(due, oldest) for due in batch))
            enqueued += results.count("lost")
            overdue += sum(result not in _NOT_OVERDUE for result in results)
        self._counts.overdue = overdue
        self._counts.rescued += enqueued
        return enqueued

    async def _overdue(self) -> AsyncIterator[list[Due]]:
        latest = self._clock() - GRACE_S
        batch: list[Due] = []
        async for due in self._due.entries():
            if due.by < latest and due.written_at < latest:
                batch.append(due)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        yield batch

    async def _examine(self, due: Due, oldest_waiting: float | None) -> EntryState:
        """Enqueue an overdue execution if its job is lost; return the state of its entry."""
        if oldest_waiting is not None and oldest_waiting <= max(due.by, due.written_at) + GRACE_S:
            return "waiting"
        try:
            state = await self._state_of(due)
        except NewerLogError:
            return "unreadable"  # newer workers, which can read it, sweep too
        except (IllegalEventError, msgspec.DecodeError) as error:
            # One unreadable log must not stop the sweep of all others.
            _log.error(
                "sweep: unreadable log",
                tenant=due.tenant,
                execution=due.execution,
                error=str(error),
            )
            return "unreadable"
        if state == "lost":
            await self._enqueue(due)
        return state

    async def _state_of(self, due: Due) -> EntryState:
        """Return the state of an overdue entry; remove it if its execution needs no worker."""
        last = await self._executions.last_commit(due.tenant, due.execution, at_least=1)
        if last is None:
            # A client may be about to create it.
            if due.written_at < self._clock() - CREATION_GRACE_S:
                await self._live.remove_unknown(due.tenant, due.execution)
                await self._remove_entry(due)
            return "settled"
        if isinstance(last.events()[-1], TERMINAL):
            # The worker that ended it may have died before it updated the indexes. Enqueue it once:
            # if that fails for good, it must not be repeated for ever.
            await self._fleet.jobs.advance(due.tenant, due.execution)
            await self._remove_entry(due)
            return "settled"
        try:
            if await self._is_driven(due, last):
                return "driven"
        except ExecutionNotFoundError:  # its first commits have expired
            await self._remove_entry(due)
            return "settled"
        # It gets its job when its tenant has a free slot.
        is_queued = await self._fleet.is_queued(due.tenant, due.execution)
        return "waiting" if is_queued else "lost"

    async def _is_driven(self, due: Due, last: Commit) -> bool:
        if last.time > self._clock() - 2 * self._periods.ack_wait:
            return True
        writer = await self._executions.driver_of(due.tenant, last)
        return bool(writer) and await self._fleet.is_driving(writer, due.tenant, due.execution)

    async def _enqueue(self, due: Due) -> None:
        _log.warning("sweep: execution had no job", tenant=due.tenant, execution=due.execution)
        # Put the entry first, so the next sweep also waits for this job.
        await self._due.put(due.tenant, due.execution, self._clock())
        await self._fleet.jobs.advance(due.tenant, due.execution)
        if due.request is not None:
            await self._remove_entry(due)

    async def _remove_entry(self, due: Due) -> None:
        await self._due.remove(due.tenant, due.execution, due.revision, due.request)
