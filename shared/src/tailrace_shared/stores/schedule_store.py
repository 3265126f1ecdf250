"""Schedules that start runs, stored as JetStream message schedules.

The body of a schedule's message is the job that each firing enqueues; its headers say when. There
is no second record that could differ. Storing another message under its subject replaces it.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.errors import InvalidScheduleError, JetStreamError, ScheduleNotFoundError
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import JetStream, StoredMessage, subject_counts
from tailrace_shared.nats.jobs import (
    EXECUTIONS_QUEUE,
    OVERLAP,
    PAUSED,
    RUN_CRON,
    RUN_INPUT,
    SINCE,
    START_SCHEDULED_ACTOR,
    TIME_ZONE,
    JobMessage,
    paused_headers,
    recurring_headers,
)
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Overlap

# JetStream's error codes for an invalid pattern and for an unknown time zone.
_REFUSALS: Final = {
    10189: ("cron", "NATS does not accept this pattern, or it never fires"),
    10223: ("time_zone", "NATS does not know this time zone, or has no database of time zones"),
}
# Inputs have up to 256 KiB each. A page is read in small steps and ends at a size limit.
_STEP: Final = 10
_PAGE_BYTES: Final = 2 * 1024 * 1024


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule.

    Attributes:
        cron: a cron line of five or six fields, ``@every 5m``, or a name like ``@hourly``.
        time_zone: the IANA time zone of a cron line, UTC if None.
        created_at: when it was posted, in seconds since the epoch.
        overlap: what happens to a firing while another run of the schedule is active; None lets
            its runs overlap.
        paused: whether it does not fire.
        since: when it was resumed, in seconds since the epoch; None if it never was paused.
    """

    id: str
    workflow_id: str
    cron: str
    time_zone: str | None
    input: Any
    created_at: float
    overlap: Overlap | None = None
    paused: bool = False
    since: float | None = None

    @property
    def fires_since(self) -> float:
        """When it began to fire: its creation, or the end of its last pause."""
        return self.created_at if self.since is None else self.since


class ActiveSchedule(NamedTuple):
    """A schedule that fires.

    Attributes:
        subject: its subject, which is part of the ids of its firings.
        token: the token that tells its firings from those of a predecessor with the same id.
    """

    tenant: str
    schedule: Schedule
    subject: str
    token: str


class SchedulePage(NamedTuple):
    """A page of schedules by id, and the cursor of the next page, or None."""

    schedules: list[Schedule]
    cursor: str | None


_decode_job = msgspec.json.Decoder(JobMessage).decode


class ScheduleStore:
    """Puts, gets, lists and deletes schedules."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(JOBS)

    async def put(self, tenant: str, schedule: Schedule) -> None:
        """Store a schedule; it replaces one with the same id.

        Raises:
            InvalidScheduleError: JetStream does not accept its pattern or its time zone.
        """
        headers = (
            paused_headers()
            if schedule.paused
            else recurring_headers(
                schedule.cron,
                target=self._subjects.job(EXECUTIONS_QUEUE),
                time_zone=schedule.time_zone,
            )
        )
        subject = self._subjects.run_schedule(tenant, schedule.id)
        try:
            await self._jetstream.publish(subject, _job(tenant, schedule), headers)
        except JetStreamError as error:
            if error.code not in _REFUSALS:
                raise
            raise InvalidScheduleError(*_REFUSALS[error.code]) from None

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """Return a schedule.

        Raises:
            ScheduleNotFoundError: the tenant has no such schedule.
        """
        subject = self._subjects.run_schedule(tenant, schedule_id)
        message = await self._jetstream.get_newest(self._stream, {"last_by_subj": subject})
        if message is None:
            raise _not_found(schedule_id)
        return _schedule(message)

    async def exists(self, tenant: str, schedule_id: str) -> bool:
        try:
            await self.get(tenant, schedule_id)
        except ScheduleNotFoundError:
            return False
        return True

    async def delete(self, tenant: str, schedule_id: str) -> None:
        """Delete a schedule. A firing that is enqueued already still starts a run.

        Raises:
            ScheduleNotFoundError: the tenant has no such schedule.
        """
        subject = self._subjects.run_schedule(tenant, schedule_id)
        answer = await self._jetstream.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})
        if not answer["purged"]:
            raise _not_found(schedule_id)

    async def page(self, tenant: str, *, limit: int, cursor: str | None = None) -> SchedulePage:
        """Return up to ``limit`` of the tenant's schedules after ``cursor``, ordered by id.

        A page with large inputs may be shorter, and still have a cursor.
        """
        pattern = self._subjects.run_schedules(tenant)
        subjects = sorted(await subject_counts(self._jetstream, self._stream, pattern))
        if cursor is not None:
            last = self._subjects.run_schedule(tenant, cursor)
            subjects = [subject for subject in subjects if subject > last]
        found: list[Schedule] = []
        size = taken = 0
        while taken < min(limit, len(subjects)) and size < _PAGE_BYTES:
            some = subjects[taken : min(taken + _STEP, limit)]
            messages = await self._last(some)
            found.extend(map(_schedule, messages))
            size += sum(len(message.data) for message in messages)
            taken += len(some)
        more = taken < len(subjects)
        return SchedulePage(found, _id_of(subjects[taken - 1]) if more else None)

    async def active(self) -> AsyncIterator[ActiveSchedule]:
        """Yield all schedules of all tenants that fire."""
        pattern = self._subjects.all_run_schedules
        subjects = sorted(await subject_counts(self._jetstream, self._stream, pattern))
        for first in range(0, len(subjects), _STEP):
            for message in await self._last(subjects[first : first + _STEP]):
                if (active := _active(message)) is not None:
                    yield active

    async def get_active(self, tenant: str, schedule_id: str) -> ActiveSchedule | None:
        """Return a schedule, or None if it is paused or deleted."""
        subject = self._subjects.run_schedule(tenant, schedule_id)
        message = await self._jetstream.get_newest(self._stream, {"last_by_subj": subject})
        return None if message is None else _active(message)

    async def _last(self, subjects: Iterable[str]) -> list[StoredMessage]:
        request = {"multi_last": list(subjects), "batch": _STEP}
        messages, _ = await self._jetstream.batch(self._stream, request)
        return sorted(messages, key=lambda message: message.subject)


def _job(tenant: str, schedule: Schedule) -> bytes:
    return msgspec.json.encode(
        JobMessage(
            queue_name=EXECUTIONS_QUEUE,
            actor_name=START_SCHEDULED_ACTOR,
            # The token tells a firing of this schedule from one of its predecessor that has the
            # same time.
            args=[tenant, schedule.workflow_id, schedule.id, new_token()],
            options={
                RUN_INPUT: schedule.input,
                RUN_CRON: schedule.cron,
                **({} if schedule.overlap is None else {OVERLAP: schedule.overlap}),
                **({PAUSED: True, TIME_ZONE: schedule.time_zone} if schedule.paused else {}),
                **({} if schedule.since is None else {SINCE: schedule.since}),
            },
            message_timestamp=int(schedule.created_at * 1000),
        )
    )


def _schedule(message: StoredMessage) -> Schedule:
    job = _decode_job(message.data)
    _tenant, workflow_id, schedule_id, _token = job.args
    return Schedule(
        id=schedule_id,
        workflow_id=workflow_id,
        # Schedules of version 0.2 have none.
        cron=job.options.get(RUN_CRON) or message.headers["Nats-Schedule"],
        time_zone=message.headers.get("Nats-Schedule-Time-Zone", job.options.get(TIME_ZONE)),
        input=job.options[RUN_INPUT],
        created_at=job.message_timestamp / 1000,
        overlap=job.options.get(OVERLAP),
        paused=job.options.get(PAUSED, False),
        since=job.options.get(SINCE),
    )


def _active(message: StoredMessage) -> ActiveSchedule | None:
    schedule = _schedule(message)
    if schedule.paused:
        return None
    tenant, *_rest, token = _decode_job(message.data).args
    return ActiveSchedule(tenant, schedule, message.subject, token)


def _id_of(subject: str) -> str:
    return subject.rpartition(".")[2]


def _not_found(schedule_id: str) -> ScheduleNotFoundError:
    return ScheduleNotFoundError(f"there is no schedule {schedule_id!r}")
