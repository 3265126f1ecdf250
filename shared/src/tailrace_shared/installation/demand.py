"""The work that waits for workers, as the leaders in JetStream count it.

An autoscaler of workers reads it. It counts what a worker could do now or very soon: jobs that
wait, jobs that are being worked on, executions in tenants' queues (their tenants have their share
of the workers that run now), and timers that are about to fire.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tailrace_shared.errors import JetStreamError
from tailrace_shared.installation.timer_forecast import TimerForecast
from tailrace_shared.nats.jetstream import JetStream, subject_counts
from tailrace_shared.nats.topology import JOBS, LINES
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects, queue_of_job, share_queue

SOON_S: Final = 30.0
"""Timers that fire within so many seconds are demand: a worker takes about as long to start."""

# The answer then has the number of subjects, and none of them.
_BEYOND_ALL: Final = 2**31
# Tenants whose queues one reading counts. The other tenants keep their count, and are next.
_MAX_TENANTS: Final = 500


@dataclass(slots=True)
class QueueDemand:
    """The demand of one queue.

    Attributes:
        queued: jobs that no worker has.
        in_flight: jobs that a worker has.
        oldest_seconds: how long the oldest of the queued jobs has waited; 0 if there is none.
    """

    queued: int = 0
    in_flight: int = 0
    oldest_seconds: float = 0.0


@dataclass(slots=True)
class Demand:
    """The demand of an installation.

    Attributes:
        queues: the queues that have jobs, or that workers have consumed, by name.
        waiting_for_share: executions in queues of tenants.
        due_soon: timers that fire within ``SOON_S``.
    """

    queues: dict[str, QueueDemand] = field(default_factory=dict)
    waiting_for_share: int = 0
    due_soon: int = 0

    @property
    def queued(self) -> int:
        return self.waiting_for_share + sum(queue.queued for queue in self.queues.values())

    @property
    def in_flight(self) -> int:
        return sum(queue.in_flight for queue in self.queues.values())

    @property
    def total(self) -> int:
        return self.queued + self.in_flight + self.due_soon


class DemandReader:
    """Reads the demand of an installation, by one call at a time."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, stores: Stores) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(JOBS)
        self._stores = stores
        self._timers = TimerForecast(stores.due)
        # The lengths of tenants' queues, those that were counted last at the end.
        self._lengths: dict[str, int] = {}

    async def read(self) -> Demand:
        """Return the demand now.

        Raises:
            UnavailableError: NATS did not answer.
            JetStreamError: JetStream refused a request.
        """
        demand = Demand(await self.queues())
        demand.waiting_for_share = await self._waiting_for_share()
        demand.due_soon = await self._due_soon()
        return demand

    async def queues(self) -> dict[str, QueueDemand]:
        """Return the demand of each queue that has jobs, or that a worker has consumed.

        Raises:
            UnavailableError: NATS did not answer.
            JetStreamError: JetStream refused a request.
        """
        found: dict[str, QueueDemand] = {}
        async for consumer in self._consumers():
            subject = consumer["config"].get("filter_subject", "")
            if (name := queue_of_job(self._subjects, subject)) is None:
                continue
            queue = found.setdefault(name, QueueDemand())
            queue.queued += consumer["num_pending"]
            queue.in_flight += consumer["num_ack_pending"]
            if consumer["num_pending"]:
                waited = await self._oldest(subject, consumer["delivered"]["stream_seq"])
                queue.oldest_seconds = max(queue.oldest_seconds, waited)
        jobs = await subject_counts(self._jetstream, self._stream, self._subjects.jobs())
        for subject, count in jobs.items():
            name = queue_of_job(self._subjects, subject)
            if name is not None and name not in found:  # its first worker is still to come
                found[name] = QueueDemand(count, 0, await self._oldest(subject, 0))
        return found

    async def _consumers(self) -> AsyncIterator[dict[str, Any]]:
        offset = 0
        while True:
            answer = await self._jetstream.api(f"CONSUMER.LIST.{self._stream}", {"offset": offset})
            page = answer.get("consumers") or []
            for consumer in page:
                yield consumer
            offset += len(page)
            if not page or offset >= answer["total"]:
                return

    async def _oldest(self, subject: str, delivered: int) -> float:
        request = {"seq": delivered + 1, "next_by_subj": subject}
        message = await self._jetstream.get_newest(self._stream, request)
        return 0.0 if message is None else max(0.0, await self._now() - message.time)

    async def _now(self) -> float:
        """Return the time of NATS, in seconds since the epoch."""
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        return datetime.fromisoformat(info["ts"]).timestamp()

    async def _waiting_for_share(self) -> int:
        """Count the executions in tenants' queues.

        There are other queues in the same stream, so its number of messages does not tell.
        """
        names = await self._stores.leases.keys("line.*")
        tenants = dict.fromkeys(name.removeprefix("line.") for name in names)
        known = {name: length for name, length in self._lengths.items() if name in tenants}
        uncounted = [name for name in tenants if name not in known]
        for tenant in [*uncounted, *known][:_MAX_TENANTS]:
            known.pop(tenant, None)
            known[tenant] = await self._length(tenant)
        self._lengths = known
        # A tenant that has never been counted has at least one execution in its queue.
        return sum(known.values()) + len(tenants) - len(known)

    async def _length(self, tenant: str) -> int:
        body = {
            "subjects_filter": self._subjects.line(share_queue(tenant)),
            "offset": _BEYOND_ALL,
        }
        try:
            answer = await self._jetstream.api(f"STREAM.INFO.{self._subjects.stream(LINES)}", body)
        except JetStreamError:  # its queue has just become empty
            return 0
        return int(answer["total"])

    async def _due_soon(self) -> int:
        newest, now = await self._stores.due.edge()
        return await self._timers.count(now, SOON_S, newest)
