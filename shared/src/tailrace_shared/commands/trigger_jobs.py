"""Jobs that have a worker deliver a stored trigger, now or unless they are withdrawn."""

import time
from typing import Final

from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.jobs import TRIGGERS_QUEUE, at_headers, deliver_trigger_job
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.subjects import Subjects

# Longer than a sender delivers by itself.
_DELAY_S: Final = 10.0


class TriggerJobs:
    """Publishes the jobs of triggers. A job too many is harmless: delivery is idempotent."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects

    async def deliver_soon(self, tenant: str, sequence: int) -> None:
        """Have a worker deliver a trigger in ten seconds, unless the job is withdrawn.

        Raises:
            UnavailableError: NATS did not answer; the job may or may not be published.
        """
        target = self._subjects.job(TRIGGERS_QUEUE)
        headers = at_headers(time.time() + _DELAY_S, target=target)
        job = deliver_trigger_job(tenant, sequence)
        await self._jetstream.publish(self._scheduled(sequence), job, headers)

    async def deliver_now(self, tenant: str, sequence: int) -> None:
        """Have a worker deliver a trigger at once.

        Raises:
            UnavailableError: NATS did not answer; the job may or may not be published.
        """
        job = deliver_trigger_job(tenant, sequence)
        await self._jetstream.publish(self._subjects.job(TRIGGERS_QUEUE), job)

    async def withdraw(self, sequence: int) -> None:
        """Withdraw the job that :meth:`deliver_soon` published, if it was not sent yet.

        Raises:
            UnavailableError: NATS did not answer; the job may or may not be withdrawn.
        """
        body = {"filter": self._scheduled(sequence)}
        await self._jetstream.api(f"STREAM.PURGE.{self._subjects.stream(JOBS)}", body)

    def _scheduled(self, sequence: int) -> str:
        return self._subjects.job_at(TRIGGERS_QUEUE, f"trigger-{sequence}")
