"""The gate before a workflow's executions: no more than so many at once, in order of arrival.

A group of executions has a record, who holds a slot, and a line of those who wait. The record is
changed by compare-and-set on its revision, so of two who want the last slot one gets it; no
message and no crash can make more holders than the limit. What remains is that nobody waits while
a slot is free. Slots become free in ``leave`` only (or when a holder is found to have ended), and
whoever makes one free then wakes the first in line, that is, publishes its job. A waiter joins
the line first and looks at the record again after that: either it sees the free slot, or whoever
frees one later sees it in the line. One that is woken and gets in takes itself out of the line
and wakes the next while slots are free, so a chain of wakes is never broken by its own success.

A crash between any two of these steps leaves a job that is not acknowledged: that of the one who
was entering, or leaving. It is delivered again, ``enter`` or ``leave`` is called again, and both
do all their steps again: a holder that enters is let in, takes itself out of the line and wakes
the next; one that leaves and holds nothing still wakes the first. Too many wakes are harmless: a
job for an execution that cannot get in finds that out and ends.

An execution that is gone (its log has expired, its job became a dead letter) would hold its slot
or its place for ever. So the longest holder is looked at whenever there is no slot left, and the
first in line before it is woken; what has ended is taken out.
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
    """What came of an attempt to enter.

    Attributes:
        admitted: whether the execution holds a slot.
        holders: those who do, the one that came first before the others.
    """

    admitted: bool
    holders: list[str]


class _Record(msgspec.Struct):
    holders: list[str]


class _Group(NamedTuple):
    """A group: who its executions belong to, its record's key, its line, its slots."""

    tenant: str
    key: str
    line: str
    limit: int


_decode = msgspec.json.Decoder(_Record).decode


class ConcurrencyGate:
    """Lets executions in and out.

    Args:
        stores: the records, the queues, and the log, which tells whether an execution has ended.
        jobs: where the job of a woken execution is published.
    """

    def __init__(self, stores: Stores, jobs: JobPublisher) -> None:
        self._bucket = stores.concurrency
        self._line = stores.queues
        self._log = stores.log
        self._jobs = jobs

    async def enter(
        self,
        tenant: str,
        workflow_id: str,
        group: str,
        limit: int,
        execution: str,
        *,
        waits: bool = True,
        overtakes: bool = False,
    ) -> GateResult:
        """Let an execution in, or put it in line. May be called again at any time.

        Args:
            tenant: whose execution.
            workflow_id: of which workflow.
            group: an id for those that exclude each other.
            limit: how many may hold a slot at once.
            execution: who wants one.
            waits: False if it is not to stand in line.
            overtakes: True if whoever comes later is not to wait for its end: the first in line
                is woken at once, to see to that.

        Raises:
            UnavailableError: NATS did not answer; call again.
        """
        place = _group(tenant, workflow_id, group, limit)
        entry = await self._try(place, execution)
        if not entry.admitted and waits:
            await self._line.join(place.line, tenant, execution)
            entry = await self._try(place, execution)
        if entry.admitted:
            await self._line.leave(place.line, tenant, execution)
        # Whoever is in the line although there is room has not been told.
        if len(entry.holders) < limit or (entry.admitted and overtakes):
            await self._wake(place)
        return entry

    async def leave(
        self, tenant: str, workflow_id: str, group: str, limit: int, execution: str
    ) -> None:
        """Give a slot or a place in line back. May be called again at any time.

        Raises:
            UnavailableError: NATS did not answer; call again.
        """
        place = _group(tenant, workflow_id, group, limit)
        holders = await self._release(place, execution)
        await self._line.leave(place.line, tenant, execution)
        if len(holders) < limit:
            await self._wake(place)

    async def _try(self, place: _Group, execution: str) -> GateResult:
        """Take a slot if one is free and nobody has waited longer."""
        while True:
            holders, revision = await self._holders(place)
            if execution in holders:
                return GateResult(True, holders)
            if len(holders) >= place.limit:
                if not await self._has_ended(place.tenant, holders[0]):
                    return GateResult(False, holders)
                await self._release(place, holders[0])
                continue
            if await self._line.first(place.line) not in {None, (place.tenant, execution)}:
                return GateResult(False, holders)
            holders = [*holders, execution]
            if await self._bucket.replace(place.key, _encode(holders), revision) is not None:
                return GateResult(True, holders)

    async def _release(self, place: _Group, execution: str) -> list[str]:
        """Take an execution out of the record; returns who is left."""
        while True:
            holders, revision = await self._holders(place)
            if execution not in holders:
                return holders
            holders = [holder for holder in holders if holder != execution]
            if holders:
                done = await self._bucket.replace(place.key, _encode(holders), revision) is not None
            else:
                # There may be a group for every value of a key: an empty one is not kept.
                done = await self._bucket.purge(place.key, revision)
            if done:
                return holders

    async def _wake(self, place: _Group) -> None:
        """Publish the job of the first in line that has not ended."""
        while (first := await self._line.first(place.line)) is not None:
            if not await self._has_ended(*first):
                await self._jobs.advance(*first)
                return
            await self._line.leave(place.line, *first)

    async def _holders(self, place: _Group) -> tuple[list[str], int]:
        entry = await self._bucket.get_newest(place.key)
        return ([], 0) if entry is None else (_decode(entry.value).holders, entry.revision)

    async def _has_ended(self, tenant: str, execution: str) -> bool:
        try:
            last = await self._log.last_commit(tenant, execution)
        except NewerLogError:
            return False  # a worker of that version will give the slot back
        return last is None or isinstance(last.events()[-1], TERMINAL)


def _group(tenant: str, workflow_id: str, group: str, limit: int) -> _Group:
    names = (
        check_id(tenant, "tenant"),
        check_id(workflow_id, "workflow"),
        check_id(group, "group"),
    )
    digest = hashlib.sha256(".".join(names).encode()).hexdigest()[:40]
    return _Group(tenant, ".".join(names), f"gate-{digest}", limit)


def _encode(holders: list[str]) -> bytes:
    return msgspec.json.encode(_Record(holders))
