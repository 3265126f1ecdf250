"""Find how far the logs of executions reach, for many callers with one read.

Callers that ask while a read is running share the next one.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from weakref import WeakValueDictionary

from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.views.view import Logged
from tailrace_shared.errors import LaggingReplicaError
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter

# Of all tenants. One of a tenant: the others wait together for the next.
_MAX_CONCURRENT: Final = 4


class NewestCommits:
    """Reads the newest commits of executions."""

    def __init__(self, log: ExecutionLog, counts: Counts) -> None:
        self._log = log
        self._counts = counts
        self._pending: dict[str, tuple[asyncio.Task[Mapping[str, int]], set[str]]] = {}
        self._newest: dict[str, Logged] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def of(
        self, tenant: str, executions: Iterable[str], newest: Logged | None
    ) -> dict[str, int]:
        """Return the sequence of the newest commit of each execution that has one.

        Args:
            newest: the tenant's newest commit that this process has seen; None if it has none. The
                answers are at least as new.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        if newest is None:
            return {}
        known = self._newest.get(tenant)
        if known is None or known.sequence < newest.sequence:
            self._newest[tenant] = newest
        if tenant not in self._pending:
            task = asyncio.create_task(self._read(tenant))
            task.add_done_callback(_retrieve_error)
            self._pending[tenant] = task, set()
        task, wanted = self._pending[tenant]
        wanted.update(executions)
        found = await asyncio.shield(task)
        return {execution: found[execution] for execution in executions if execution in found}

    async def _read(self, tenant: str) -> Mapping[str, int]:
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        async with turn, self._slots:
            _task, wanted = self._pending.pop(tenant)
            newest = self._newest.pop(tenant)
            self._counts.reads += 1
            # The first is known to exist, so its presence shows that a replica is up to date.
            asked = [newest.execution, *sorted(wanted - {newest.execution})]
            try:
                found = await self._log.last_commits(tenant, asked, newest.sequence)
            except LaggingReplicaError:
                # The first may have been deleted. Then the leader knows each of the others.
                found = await self._log.on_leader(
                    lambda: self._on_leader(tenant, asked), newest.sequence
                )
        return {execution: commit.sequence for execution, commit in found.items()}

    async def _on_leader(self, tenant: str, executions: Sequence[str]) -> dict[str, Commit]:
        read = (self._log.newest(LogFilter(tenant, execution)) for execution in executions)
        return {commit.execution: commit for commit in await asyncio.gather(*read) if commit}


def _retrieve_error(task: asyncio.Task[Mapping[str, int]]) -> None:
    # Retrieved, or asyncio would log an error that no caller waits for any more.
    if not task.cancelled():
        task.exception()
