"""Compare the waiting index with the log, a slice of it in each interval.

The index follows the log, but not in one transaction. A worker that dies, or a leader of NATS that
changes, may leave an entry of a step that waits no more. An execution that an older version began
may be missing from the live index, and with it from the list of paused workflows. Readers check the
index against the log, so both are wasted work and not wrong answers, unless they stay for ever.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

import msgspec
import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    JetStreamError,
    NewerLogError,
    UnavailableError,
)
from tailrace_shared.execution.commit_status import digest_of_waits
from tailrace_shared.execution.state import IllegalEventError
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import LogFilter
from tailrace_worker.engine.recovery.interval_lease import IntervalLease

_DUTY: Final = "waiting"
_POSITION: Final = "waiting.position"
_SLICE: Final = 500
# The worker of a newer commit may be about to update the index.
_MIN_AGE_S: Final = 60.0

_log = structlog.get_logger(__name__)


class _Position(msgspec.Struct):
    revision: int


class WaitingRepair:
    """Repairs the waiting index on this worker; a lease lets one worker do so at a time.

    Args:
        stores: the log and the indexes.
        jobs: where the job of an execution is published that lacks an entry.
        interval: the time between two slices, in seconds.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self, stores: Stores, jobs: JobPublisher, interval: float, clock: Callable[[], float]
    ) -> None:
        self._stores = stores
        self._jobs = jobs
        self._lease = IntervalLease(stores.leases, _DUTY, interval, clock)
        self._interval = interval
        self._clock = clock

    async def run(self) -> NoReturn:
        """Repair until cancelled; errors of NATS are logged."""
        while True:
            # Workers that started together should not claim the lease together.
            await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311
            try:
                if not await self._lease.claim():
                    continue
                repaired = await self.sweep()
            except (UnavailableError, JetStreamError, msgspec.DecodeError) as error:
                _log.warning("waiting index: check failed", error=str(error))
                continue
            if repaired:
                _log.info("waiting index: repaired executions", count=repaired)

    async def sweep(self) -> int:
        """Check the next slice of the index; return the number of executions that were repaired.

        Raises:
            UnavailableError: NATS did not answer.
        """
        stored = await self._stores.leases.get_newest(_POSITION)
        position = (
            0 if stored is None else msgspec.json.decode(stored.value, type=_Position).revision
        )
        entries, following = await self._stores.waiting.oldest_first(position + 1, _SLICE)
        by_tenant: dict[str, dict[str, list[Waiting]]] = {}
        for tenant, waiting in entries:
            by_tenant.setdefault(tenant, {}).setdefault(waiting.execution_id, []).append(waiting)
        repaired = 0
        for tenant, executions in by_tenant.items():
            commits = await self._stores.log.last_commits(tenant, [*executions], 0)
            for execution, waits in executions.items():
                repaired += await self._repair(tenant, execution, waits, commits.get(execution))
        # A slice that is not full was the last one.
        await self._stores.leases.put(_POSITION, msgspec.json.encode(_Position(following)))
        return repaired

    async def _repair(
        self, tenant: str, execution: str, waits: list[Waiting], newest: Commit | None
    ) -> bool:
        newest = newest or await self._stores.log.newest(LogFilter(tenant, execution))
        if newest is None:
            await self._remove(tenant, waits)
            return True
        if newest.time > self._clock() - _MIN_AGE_S or newest.is_newer:
            return False
        status = newest.status
        if status is not None and status.status in TERMINAL_STATUSES:
            await self._remove(tenant, waits)
            return True
        is_live = await self._stores.live.has(tenant, waits[0].workflow_id, execution)
        if not is_live:
            await self._add_live(tenant, waits[0].workflow_id, execution)
        if status is not None and (status.waits, status.digest) == _description(waits):
            return not is_live
        return await self._compare(tenant, execution) or not is_live

    async def _add_live(self, tenant: str, workflow: str, execution: str) -> None:
        await self._stores.live.put(tenant, workflow, execution)
        newest = await self._stores.log.newest(LogFilter(tenant, execution))
        status = None if newest is None else newest.status
        if status is not None and status.status in TERMINAL_STATUSES:
            # It has ended meanwhile, and its worker may have removed it before.
            await self._stores.live.remove(tenant, workflow, execution)

    async def _compare(self, tenant: str, execution: str) -> bool:
        """Compare the entries of an execution with its log; return whether they differed."""
        waits = await self._stores.waiting.of_execution(tenant, execution)
        try:
            state = (await self._stores.log.load_newest(tenant, execution)).state
        except ExecutionNotFoundError:
            await self._remove(tenant, waits)
            return True
        except (NewerLogError, IllegalEventError, msgspec.DecodeError):
            return False
        if state.is_terminal:
            await self._remove(tenant, waits)
            await self._stores.live.remove(tenant, state.workflow_id, execution)
            return True
        waiting = {step for step, each in state.steps.items() if each.waits_for_signal}
        wrong = [entry for entry in waits if entry.node_id not in waiting]
        await self._remove(tenant, wrong)
        is_missing = waiting > {entry.node_id for entry in waits}
        if is_missing:
            # A worker that drives it puts what is missing.
            await self._jobs.advance(tenant, execution)
        return bool(wrong) or is_missing

    async def _remove(self, tenant: str, waits: Iterable[Waiting]) -> None:
        await asyncio.gather(*(self._stores.waiting.remove(tenant, each) for each in waits))


def _description(waits: list[Waiting]) -> tuple[int, int]:
    return len(waits), digest_of_waits((entry.node_id, entry.since) for entry in waits)
