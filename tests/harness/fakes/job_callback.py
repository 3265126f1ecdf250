"""A job publisher that hands each job to a callback instead of NATS."""

from collections.abc import Awaitable, Callable

from tailrace_shared.commands.job_publisher import JobPublisher


class JobCallback(JobPublisher):
    """Calls ``advance`` with the tenant and the id of each execution that would get a job."""

    def __init__(self, advance: Callable[[str, str], Awaitable[None]]) -> None:
        self._callback = advance

    async def advance(self, tenant: str, execution: str, *, overtakes: bool = False) -> None:
        """Pass the job on."""
        del overtakes
        await self._callback(tenant, execution)
