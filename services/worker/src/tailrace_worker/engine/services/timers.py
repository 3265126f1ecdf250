"""Schedule jobs for later: message schedules whose target is the work queue (ADR-51 of NATS).

NATS keeps a schedule until it fires, so no worker has to live that long. An execution has at most
one timer and one watch; a new one replaces the old one of its kind.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job, at_headers
from tailrace_shared.subjects import Subjects

# JetStream's clock overflows for schedules far ahead. The worker that drives the execution after
# this delay schedules the rest.
_MAX_DELAY_S: Final = 30 * 86400.0


class Timers:
    """Schedules the jobs of executions."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, now: Callable[[], float]) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._now = now

    async def advance_at(self, tenant: str, execution: str, due: float) -> None:
        """Have a worker drive an execution at ``due`` (seconds since the epoch)."""
        await self._schedule(f"{tenant}.{execution}", tenant, execution, due)

    async def watch_at(self, tenant: str, execution: str, due: float) -> None:
        """Have a worker check at ``due`` whether another worker still drives an execution.

        The timer that the other worker sets is not replaced.
        """
        await self._schedule(f"watch.{tenant}.{execution}", tenant, execution, due)

    async def _schedule(self, name: str, tenant: str, execution: str, due: float) -> None:
        schedule = hashlib.sha256(name.encode()).hexdigest()[:40]
        headers = at_headers(
            min(due, self._now() + _MAX_DELAY_S), target=self._subjects.job(EXECUTIONS_QUEUE)
        )
        subject = self._subjects.job_at(EXECUTIONS_QUEUE, schedule)
        await self._jetstream.publish(subject, advance_job(tenant, execution), headers)
