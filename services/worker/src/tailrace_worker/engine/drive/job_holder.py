"""Hold the job ``advance(tenant, execution)`` until the execution no longer depends on it.

A job is what brings an execution back after a crash. It is acknowledged only when the execution has
ended, or when another job stands for it:

==============  ====================================================================
drive ended as  what stands for the execution
==============  ====================================================================
``FINISHED``    nothing is needed; nor for ``NOT_FOUND``
``WAITING``     a timer, or the job that a request, a signal or a child run sends
``HANDED_OVER`` a job for another worker, published now
``DISPLACED``   the other driver's job, and a watch two ack waits ahead
``READ_AGAIN``  nothing yet: drive again
==============  ====================================================================
"""

import asyncio
from typing import Final

import structlog

from tailrace_shared.errors import NewerLogError, UnavailableError
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.process.tracing import current_trace_id
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.drives import Drives
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.timers import Timers

_MIN_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 1.0
_NEWER_WORKER_S: Final = 5.0
# A watch fires after the redelivery of the job whose worker has died since.
_WATCH_ACK_WAITS: Final = 2

_log = structlog.get_logger(__name__)


class JobHolder:
    """Holds jobs of executions while this worker drives them.

    Args:
        services: what all drives share.
        drives: drives the executions.
        timers: the jobs that stand for an execution later.
        ack_wait: seconds after which JetStream redelivers the job of a silent worker.
    """

    def __init__(
        self, services: EngineServices, drives: Drives, timers: Timers, ack_wait: float
    ) -> None:
        self._services = services
        self._drives = drives
        self._timers = timers
        self._ack_wait = ack_wait
        # One line a minute for all jobs, which all wait for the same NATS.
        self._outage_log = LogThrottle()

    async def hold(
        self, tenant: str, execution: str, stored_at: float | None = None, cause: str = ""
    ) -> None:
        """Drive an execution until its job may be acknowledged.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            stored_at: when JetStream stored the job, in seconds since the epoch; None for a
                redelivery.
            cause: the ``traceparent`` of what published the job; empty if it is not traced.

        Raises:
            UnavailableError: NATS is away while this worker stops; the job is to be redelivered.
        """
        waited_s = None if stored_at is None else max(0.0, self._services.now() - stored_at)
        pause = _MIN_RETRY_S
        while True:
            wait_s, waited_s = waited_s, None  # counted once
            try:
                if await self._advance(tenant, execution, cause, wait_s):
                    return
                pause = _MIN_RETRY_S
            except NewerLogError as error:
                self._services.counts.drives["newer_log"] += 1
                # In a rolling deployment a newer worker is about to take it.
                _log.info("job: left to a newer worker", execution=execution, error=str(error))
                due = self._services.now() + _NEWER_WORKER_S
                await self._timers.advance_at(tenant, execution, due)
                return
            except UnavailableError as error:
                self._services.counts.drives["unavailable"] += 1
                # A job that fails is published again, which needs the very NATS that is away.
                if self._drives.is_draining:
                    raise
                if self._outage_log.is_due():
                    _log.warning("waiting for NATS", execution=execution, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_RETRY_S)

    async def _advance(self, tenant: str, execution: str, cause: str, wait_s: float | None) -> bool:
        """Drive an execution once; return whether its job may be acknowledged."""
        tracing = self._services.tracing
        if tracing is None:
            return await self._drive(tenant, execution, wait_s)
        # A trace of its own: an execution may last for months.
        attributes = {"tailrace.tenant": tenant, "tailrace.execution": execution}
        with tracing.root("drive", cause, attributes):
            return await self._drive(tenant, execution, wait_s)

    async def _drive(self, tenant: str, execution: str, wait_s: float | None) -> bool:
        if wait_s is not None:
            self._services.counts.queue_wait.observe(wait_s, current_trace_id())
        result = await self._drives.drive(tenant, execution)
        self._services.counts.drives[result.end.name.lower()] += 1
        return await self._settle(tenant, execution, result)

    async def _settle(self, tenant: str, execution: str, result: DriveResult) -> bool:
        """Publish the job that the execution needs; False if it must be driven again."""
        match result.end:
            case End.FINISHED | End.NOT_FOUND:
                return True
            case End.READ_AGAIN:
                return False
            case End.HANDED_OVER:
                await self._services.commands.jobs.advance(tenant, execution, overtakes=True)
                return True
            case End.DISPLACED:
                # This job and the other worker's may be one message, delivered twice. Once this
                # delivery is acknowledged, no redelivery follows should that worker die.
                watch = self._services.now() + _WATCH_ACK_WAITS * self._ack_wait
                await self._timers.watch_at(tenant, execution, watch)
                return True
            case End.WAITING:
                if result.due is not None:
                    await self._timers.advance_at(tenant, execution, result.due)
                # The API sends no job for a request while this worker answers "driving". It
                # appends the request before it asks, so the request is seen here.
                last = await self._services.stores.log.last_commit(
                    tenant, execution, at_least=result.last_sequence
                )
                return last is None or last.sequence == result.last_sequence
