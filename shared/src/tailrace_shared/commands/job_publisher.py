"""Publish the job that makes a worker drive an execution."""

from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.subjects import Subjects


class JobPublisher:
    """Publishes jobs to the work queue of executions.

    A second job for an execution is harmless: its worker finds nothing to do.
    """

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subject = subjects.job(EXECUTIONS_QUEUE)

    async def advance(self, tenant: str, execution: str, *, overtakes: bool = False) -> None:
        """Have a worker drive an execution.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            overtakes: whether the job must not wait behind other jobs of the tenant: a command, or
                an execution that was running.

        Raises:
            UnavailableError: NATS did not answer; the job may or may not be published.
        """
        await self._jetstream.publish(
            self._subject, advance_job(tenant, execution, overtakes=overtakes)
        )
