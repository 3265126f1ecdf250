"""Jobs for later: message schedules whose target is the work queue (ADR-51).

NATS holds a schedule until it fires, so no worker has to live that long. An execution has one
timer and one watch at the most; a new one takes the place of the old of its kind.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job, at_headers
from tailrace_shared.subjects import Subjects

# A schedule far ahead overflows JetStream's clock; whoever drives at that time schedules again.
_LONGEST: Final = 30 * 86400.0


class Timers:
    """Schedules the jobs that make a worker drive an execution later."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, now: Callable[[], float]) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._now = now

    async def advance_at(self, tenant: str, execution: str, due: float) -> None:
        """Have some worker drive an execution on at ``due`` (seconds since the epoch)."""
        await self._schedule(f"{tenant}.{execution}", tenant, execution, due)

    async def watch_at(self, tenant: str, execution: str, due: float) -> None:
        """Have some worker look then whether another still drives an execution.

        Its timer, which that other one sets, is left as it is.
        """
        await self._schedule(f"watch.{tenant}.{execution}", tenant, execution, due)

    async def _schedule(self, name: str, tenant: str, execution: str, due: float) -> None:
        schedule = hashlib.sha256(name.encode()).hexdigest()[:40]
        headers = at_headers(
            min(due, self._now() + _LONGEST), target=self._subjects.job(EXECUTIONS_QUEUE)
        )
        subject = self._subjects.job_at(EXECUTIONS_QUEUE, schedule)
        await self._jetstream.publish(subject, advance_job(tenant, execution), headers)
