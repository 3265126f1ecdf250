"""Pause, resume, run and backfill schedules."""

import time
from collections.abc import Sequence
from itertools import dropwhile, islice, takewhile
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.commands.time_limit import within_limit
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.firings import firings_after
from tailrace_shared.stores.schedule_store import Schedule, ScheduleStore

MAX_BACKFILL: Final = 100
"""Maximum number of firings of one backfill."""


class Backfill(NamedTuple):
    """The firings in a range of time.

    Attributes:
        moments: their times, in seconds since the epoch, at most ``MAX_BACKFILL``.
        has_more: whether there are more.
    """

    moments: Sequence[float]
    has_more: bool


class ScheduleCommands:
    """Acts on stored schedules; raises ``ScheduleNotFoundError`` if there is none."""

    def __init__(self, schedules: ScheduleStore, starter: RunStarter) -> None:
        self._schedules = schedules
        self._starter = starter

    @within_limit
    async def pause(self, tenant: str, schedule_id: str) -> Schedule:
        """Let a schedule fire no more until it is resumed."""
        schedule = await self._schedules.get(tenant, schedule_id)
        if not schedule.paused:
            schedule = msgspec.structs.replace(schedule, paused=True)
            await self._schedules.put(tenant, schedule)
        return schedule

    @within_limit
    async def resume(self, tenant: str, schedule_id: str) -> Schedule:
        """Let a paused schedule fire again. What it has missed is not made up."""
        schedule = await self._schedules.get(tenant, schedule_id)
        if schedule.paused:
            schedule = msgspec.structs.replace(schedule, paused=False, since=time.time())
            await self._schedules.put(tenant, schedule)
        return schedule

    async def run(self, tenant: str, schedule_id: str, key: str | None) -> ExecutionState:
        """Start a run of a schedule now.

        Raises:
            InvalidInputError, WorkflowNotFoundError, IdempotencyConflictError, TooManyRunsError,
                TooManyLiveRunsError, UnavailableError: as :meth:`RunStarter.start`.
        """
        schedule = await self._schedules.get(tenant, schedule_id)
        return await self._starter.start(request_of(tenant, schedule, time.time(), key))

    async def firings(
        self, tenant: str, schedule_id: str, start: float, end: float
    ) -> tuple[Schedule, Backfill]:
        """Return the firings of a schedule from ``start`` until before ``end``."""
        schedule = await self._schedules.get(tenant, schedule_id)
        # Cron expressions fire at whole seconds, and the first second counts.
        found = firings_after(schedule.cron, schedule.time_zone, start - 1, phase=start)
        within = takewhile(lambda at: at < end, dropwhile(lambda at: at < start, found))
        moments = list(islice(within, MAX_BACKFILL + 1))
        return schedule, Backfill(moments[:MAX_BACKFILL], len(moments) > MAX_BACKFILL)

    async def backfill(self, tenant: str, schedule: Schedule, moment: float) -> ExecutionState:
        """Start the run of one firing, once: a repeated backfill finds it.

        Raises:
            InvalidInputError, WorkflowNotFoundError, TooManyRunsError, TooManyLiveRunsError,
                UnavailableError: as :meth:`RunStarter.start`.
        """
        key = f"backfill {schedule.id} {moment}"
        if schedule.overlap is not None:
            # The other policies would leave only one of the runs.
            schedule = msgspec.structs.replace(schedule, overlap="queue")
        return await self._starter.start(request_of(tenant, schedule, moment, key))


def request_of(tenant: str, schedule: Schedule, moment: float, key: str | None) -> RunRequest:
    """Return the request for the run of a firing.

    Args:
        tenant: the tenant.
        schedule: the schedule.
        moment: the time of the firing, in seconds since the epoch.
        key: the idempotency key.
    """
    return RunRequest(
        tenant=tenant,
        workflow_id=schedule.workflow_id,
        field="input",
        input=schedule.input,
        body={"input": schedule.input},
        key=key,
        origin=Origin(
            scheduled_at=format_timestamp(moment),
            schedule=schedule.id,
            overlap=schedule.overlap,
        ),
    )


def key_of_firing(schedule_id: str, token: str, firing_id: str) -> str:
    """Return the idempotency key of the run of a firing.

    Args:
        schedule_id: the schedule.
        token: its token: a schedule that replaced another may fire at the same time as that one
            did.
        firing_id: the id of the firing.
    """
    return f"schedule {schedule_id} {token} {firing_id}"
