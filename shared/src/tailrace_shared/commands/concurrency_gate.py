"""The gate before a workflow's executions: at most ``limit`` at once, in order of arrival.

A group of executions has a record of its slot holders and a queue of those that wait. The record is
changed by compare-and-set on its revision, so of two executions that want the last slot one gets
it: no message and no crash can make more holders than the limit. The other half is liveness: no
execution may wait while a slot is free. Slots become free only in ``leave`` (or when a holder is
found to have ended), and the worker that frees one wakes the first in the queue: it publishes its
job. An execution joins the queue first and then looks at the record again. Either it sees the free
slot, or the worker that frees one later sees it in the queue. A woken execution that gets in leaves
the queue and wakes the next while slots are free, so success never breaks the chain of wakes.

A crash between any two of these steps leaves an unacknowledged job: that of the execution that was
entering or leaving. It is redelivered, ``enter`` or ``leave`` is called again, and both repeat all
their steps: a holder that enters is admitted, leaves the queue and wakes the next; one that leaves
and holds no slot still wakes the first. Spurious wakes are harmless: the job of an execution that
cannot get in ends at once.

An execution that is lost (its log has expired, its job became a dead letter) would hold its slot or
its group in the queue for ever. So the longest holder is checked whenever no slot is free, and the
first in the queue before it is woken. Those that have ended are removed.
"""

import hashlib
from typing import NamedTuple

import msgspec

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import NewerLogError
from tailrace_shared.execution.events import TERMINAL
from tailrace_shared.ids import check_id
from tailrace_shared.stores.stores import Stores


class GateResult(NamedTuple):
    """The result of an attempt to enter.

    Attributes:
        holders: the executions that hold one, in the order in which they were admitted.
    """

    admitted: bool
    holders: list[str]


class _Record(msgspec.Struct):
    holders: list[str]


class _Group(NamedTuple):
    """A group of executions: its tenant, the key of its record, its queue, its number of slots."""

    tenant: str
    key: str
    queue: str
    limit: int


_decode = msgspec.json.Decoder(_Record).decode


class ConcurrencyGate:
    """Admits executions within the concurrency limit of their group.

    Args:
        stores: the records, the queues, and the log, which tells whether an execution has ended.
    """

    def __init__(self, stores: Stores, jobs: JobPublisher) -> None:
        self._bucket = stores.concurrency
        self._queues = stores.queues
        self._log = stores.log
        self._jobs = jobs

    async def enter(
        self,
        tenant: str,
        workflow_id: str,
        name: str,
        limit: int,
        execution: str,
        *,
        waits: bool = True,
        overtakes: bool = False,
    ) -> GateResult:
        """Admit an execution or queue it. Idempotent.

        Args:
            limit: how many executions of the group may hold a slot at once.
            waits: False if it must not be queued.
            overtakes: True if later executions replace it: the first in the queue is woken at once.

        Raises:
            UnavailableError: NATS did not answer; call again.
        """
        group = _group(tenant, workflow_id, name, limit)
        result = await self._try(group, execution)
        if not result.admitted and waits:
            await self._queues.join(group.queue, tenant, execution)
            result = await self._try(group, execution)
        if result.admitted:
            await self._queues.leave(group.queue, tenant, execution)
        # An execution that is queued although a slot is free has not been woken.
        if len(result.holders) < limit or (result.admitted and overtakes):
            await self._wake(group)
        return result

    async def leave(
        self, tenant: str, workflow_id: str, name: str, limit: int, execution: str
    ) -> None:
        """Give back a slot or a place in the queue. Idempotent.

        Raises:
            UnavailableError: NATS did not answer; call again.
        """
        group = _group(tenant, workflow_id, name, limit)
        holders = await self._release(group, execution)
        await self._queues.leave(group.queue, tenant, execution)
        if len(holders) < limit:
            await self._wake(group)

    async def is_held(self, tenant: str, workflow_id: str, name: str) -> bool:
        """Return whether an execution that has not ended holds a slot of a group."""
        group = _group(tenant, workflow_id, name, 1)
        holders, _revision = await self._holders(group)
        for holder in holders:
            if not await self._has_ended(tenant, holder):
                return True
        return False

    async def _try(self, group: _Group, execution: str) -> GateResult:
        """Take a slot if one is free and no other execution has waited longer."""
        while True:
            holders, revision = await self._holders(group)
            if execution in holders:
                return GateResult(True, holders)
            if len(holders) >= group.limit:
                if not await self._has_ended(group.tenant, holders[0]):
                    return GateResult(False, holders)
                await self._release(group, holders[0])
                continue
            if await self._queues.first(group.queue) not in {None, (group.tenant, execution)}:
                return GateResult(False, holders)
            holders = [*holders, execution]
            if await self._bucket.replace(group.key, _encode(holders), revision) is not None:
                return GateResult(True, holders)

    async def _release(self, group: _Group, execution: str) -> list[str]:
        """Remove an execution from the record; return the holders that are left."""
        while True:
            holders, revision = await self._holders(group)
            if execution not in holders:
                return holders
            holders = [holder for holder in holders if holder != execution]
            replaced = await self._bucket.replace(group.key, _encode(holders), revision)
            if replaced is None:
                continue
            if not holders:
                # There may be a group for every value of a key. A purge is not fenced: in a cluster
                # a write that was accepted before it may be stored after it, so only an empty
                # record may be purged.
                await self._bucket.purge(group.key, replaced)
            return holders

    async def _wake(self, group: _Group) -> None:
        """Publish the job of the first execution in the queue that has not ended."""
        while (first := await self._queues.first(group.queue)) is not None:
            if not await self._has_ended(*first):
                await self._jobs.advance(*first)
                return
            await self._queues.leave(group.queue, *first)

    async def _holders(self, group: _Group) -> tuple[list[str], int]:
        entry = await self._bucket.get_newest(group.key)
        return ([], 0) if entry is None else (_decode(entry.value).holders, entry.revision)

    async def _has_ended(self, tenant: str, execution: str) -> bool:
        try:
            last = await self._log.last_commit(tenant, execution, at_least=1)
        except NewerLogError:
            return False  # a worker of that version will release the slot
        return last is None or isinstance(last.events()[-1], TERMINAL)


def _group(tenant: str, workflow_id: str, name: str, limit: int) -> _Group:
    names = (check_id(tenant, "tenant"), check_id(workflow_id, "workflow"), check_id(name, "group"))
    digest = hashlib.sha256(".".join(names).encode()).hexdigest()[:40]
    return _Group(tenant, ".".join(names), f"gate-{digest}", limit)


def _encode(holders: list[str]) -> bytes:
    return msgspec.json.encode(_Record(holders))
