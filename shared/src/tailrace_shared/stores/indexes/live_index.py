"""The index of executions that have not ended, by workflow.

An execution is entered before its first commit, and removed when its last commit is in the log and
its effects are done. So the index has every execution that is live by the log, and maybe some that
have ended. Listing live executions costs nothing for finished ones.

Runs that began before this index existed are backfilled from the run index, once.
"""

from typing import Final, NamedTuple

from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import LIVE
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.subjects import Subjects

# Keys of entries have three tokens, so this key cannot be one of them.
_BACKFILLED: Final = "adopted"


class Live(NamedTuple):
    """An execution that may not have ended."""

    workflow: str
    execution: str


class LiveIndex:
    """Writes and reads the live index."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(LIVE))

    async def put(self, tenant: str, workflow: str, execution: str) -> None:
        """Add an execution.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._bucket.put(_key(tenant, workflow, execution), b"")

    async def remove(self, tenant: str, workflow: str, execution: str) -> None:
        """Remove an execution that has ended.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._bucket.purge(_key(tenant, workflow, execution))

    async def has(self, tenant: str, workflow: str, execution: str) -> bool:
        """Return whether an execution is in the index, by the leader.

        Raises:
            UnavailableError: NATS did not answer.
        """
        return await self._bucket.get_newest(_key(tenant, workflow, execution)) is not None

    async def remove_unknown(self, tenant: str, execution: str) -> None:
        """Remove an execution whose workflow is unknown, because it has no log.

        Raises:
            UnavailableError: NATS did not answer.
        """
        of_tenant = check_id(tenant, "tenant")
        await self._bucket.purge(f"{of_tenant}.*.{check_id(execution, 'execution')}")

    async def backfill(self, runs: RunIndex) -> None:
        """Add the unfinished runs of an older version; does nothing after the first time.

        Raises:
            UnavailableError: NATS did not answer.
        """
        if await self._bucket.get_newest(_BACKFILLED) is not None:
            return
        async for tenant, run in runs.unfinished():
            await self.put(tenant, run.workflow_id, run.execution_id)
        await self._bucket.put(_BACKFILLED, b"")

    async def count(self, tenant: str) -> int:
        """Return the number of live executions of a tenant, from any replica.

        Raises:
            UnavailableError: NATS did not answer.
        """
        return await self._bucket.count(f"{check_id(tenant, 'tenant')}.*.*")

    async def of_tenant(self, tenant: str, workflow: str | None = None) -> list[Live]:
        """Return the live executions of a tenant, or of one of its workflows, from the leader.

        Raises:
            UnavailableError: NATS did not answer.
        """
        which = "*" if workflow is None else check_id(workflow, "workflow")
        keys = await self._bucket.keys(f"{check_id(tenant, 'tenant')}.{which}.*")
        return [Live(*key.split(".")[1:]) for key in keys]


def _key(tenant: str, workflow: str, execution: str) -> str:
    of_tenant = f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow')}"
    return f"{of_tenant}.{check_id(execution, 'execution')}"
