"""The index of steps that wait for a signal, by execution and by trigger.

A wait has one entry, and one pointer to it for each procedure whose trigger may resolve it. The
entry is written last and removed first, so an entry always has its pointers; a pointer without its
entry is ignored. Lists of keys come from the bucket's leader: a trigger and a wait for it may
arrive at the same moment, and one of the two must see the other.

Removed keys are purged, because reads would have to skip a marker for every wait that ever was.
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket, BucketEntry
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import WAITING
from tailrace_shared.redact.masking import MASK, mask_value
from tailrace_shared.subjects import Subjects, check_procedure

MAX_INDEXED_BYTES: Final = 16 * 1024
"""Larger values are not stored in the index; the log has them."""

_UNFILTERED: Final = 4
# More waits are decoded in a thread, so that the loop does not stall.
_MAX_ON_LOOP: Final = 500
# A cursor is this letter and the revision of the last wait of the page.
_CURSOR: Final = "w"
# Short enough for a sequence of JetStream.
_CURSOR_TEXT: Final = re.compile(rf"{_CURSOR}[0-9]{{1,18}}")
# A wait is an execution and a node.
_WAIT_PARTS: Final = 2


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that waits for a signal.

    Attributes:
        execution_id: its execution.
        node_id: the step.
        workflow_id: the execution's workflow.
        workflow_name: the workflow's display name.
        reason: the reason for the wait, from the definition.
        since: when the wait began (RFC 3339), by its event.
        until: when it times out (RFC 3339), or None.
        triggers: the procedures whose triggers may resolve the wait.
        match: the CEL expression that a trigger's event must satisfy; None for any event.
        lookback: how many seconds older than the wait an event may be.
        began: when the log stored the wait, by the clock of NATS, in seconds since the epoch.
        form: the JSON Schema of the data that the step requires.
        input: the execution's input, if it is small.
        context: the values that ``match`` uses besides the event, if they are small.
        variables: outputs of steps of the execution by node id, with sensitive values masked.
        sensitive: JSON Pointers, below ``/input`` and ``/context``, to the places to mask.
    """

    execution_id: str
    node_id: str
    workflow_id: str
    workflow_name: str
    reason: str
    since: str
    until: str | None = None
    triggers: list[str] = []
    match: str | None = None
    lookback: float = 0.0
    began: float = 0.0
    form: Any = None
    input: Any = None
    context: dict[str, Any] | None = None
    sensitive: list[str] = []
    variables: dict[str, Any] = {}

    @property
    def masked(self) -> "Waiting":
        """A copy with all sensitive places masked."""
        if not self.sensitive:
            return self
        seen = mask_value({"input": self.input, "context": self.context}, self.sensitive)
        context = {"***": MASK} if seen["context"] == MASK else seen["context"]
        return msgspec.structs.replace(self, input=seen["input"], context=context)


class WaitId(NamedTuple):
    """A wait's execution and node."""

    execution: str
    node: str


class WaitingPage(NamedTuple):
    """A page of waits, newest first, and the cursor of the next page, or None."""

    waiting: list[Waiting]
    cursor: str | None


_decode = msgspec.json.Decoder(Waiting).decode


def if_small(value: Any) -> Any:
    """Return a value if it is small enough for the index, else None."""
    return value if len(msgspec.json.encode(value)) <= MAX_INDEXED_BYTES else None


class WaitingIndex:
    """Writes the waiting index, and reads it by execution, by procedure or in pages."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(WAITING))

    async def put(self, tenant: str, waiting: Waiting) -> None:
        """Store a wait; an identical one is not written again."""
        key, value = _key(tenant, waiting), msgspec.json.encode(waiting)
        present = await self._bucket.get_newest(key)
        if present is not None and present.value == value:
            return
        await asyncio.gather(*(self._bucket.put(each, b"") for each in _pointers(tenant, waiting)))
        await self._bucket.put(key, value)

    async def remove(self, tenant: str, waiting: Waiting) -> None:
        """Remove a wait that has ended."""
        await self._bucket.purge(_key(tenant, waiting))
        await asyncio.gather(*(self._bucket.purge(each) for each in _pointers(tenant, waiting)))

    async def of_execution(self, tenant: str, execution: str) -> list[Waiting]:
        """Return the waits of one execution, unordered."""
        pattern = f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}.*"
        return await self._get(await self._bucket.keys(pattern))

    async def of_tenant(self, tenant: str) -> list[Waiting]:
        """Return all waits of a tenant, unordered."""
        entries = await self._bucket.read_all(f"{check_id(tenant, 'tenant')}.*.*")
        if len(entries) > _MAX_ON_LOOP:
            return await asyncio.to_thread(_decode_all, entries)
        return _decode_all(entries)

    async def pointers(self, tenant: str, procedure: str) -> list[WaitId]:
        """Return the tenant's waits that a trigger of ``procedure`` may resolve, from the leader.

        Raises:
            UnavailableError: NATS did not answer.
        """
        pattern = f"{check_id(tenant, 'tenant')}.{_token(procedure)}.*.*"
        pointers = await self._bucket.keys(pattern)
        return [WaitId(*pointer.split(".")[2:]) for pointer in pointers]

    async def get(self, tenant: str, waits: Iterable[WaitId]) -> list[Waiting]:
        """Return those of some waits that are in the index.

        Raises:
            UnavailableError: NATS did not answer.
        """
        tenant = check_id(tenant, "tenant")
        return await self._get([f"{tenant}.{execution}.{node}" for execution, node in waits])

    async def oldest_first(
        self, revision: int, limit: int
    ) -> tuple[list[tuple[str, Waiting]], int]:
        """Return waits of all tenants from a revision on, and the revision of the last one.

        The revision is 0 if there are no more waits.

        Raises:
            UnavailableError: NATS did not answer.
        """
        found: list[tuple[str, Waiting]] = []
        async for entry in self._bucket.scan_from(">", revision):
            tenant = entry.key.partition(".")[0]
            if _is_entry_of(tenant, entry.key):
                found.append((tenant, _decode(entry.value)))
            if len(found) == limit:
                return found, entry.revision
        return found, 0

    async def page(self, tenant: str, *, limit: int, cursor: str | None = None) -> WaitingPage:
        """Return up to ``limit`` of the tenant's waits, those that were registered last first.

        Raises:
            InvalidIdError: the tenant or the cursor is invalid.
            UnavailableError: NATS did not answer.
        """
        tenant = check_id(tenant, "tenant")
        before = None if cursor is None else await self._revision(tenant, cursor)
        found = await self._newest_first(tenant, limit + 1, before)
        waiting = [_decode(entry.value) for entry in found[:limit]]
        more = len(found) > limit
        return WaitingPage(waiting, f"{_CURSOR}{found[limit - 1].revision}" if more else None)

    async def _newest_first(self, tenant: str, limit: int, before: int | None) -> list[BucketEntry]:
        # A wait has an entry and some pointers. The newest of all tenants are found at once; a
        # wildcard is matched with every key.
        newest = await self._bucket.newest_first(">", _UNFILTERED * limit, before)
        found = [entry for entry in newest if _is_entry_of(tenant, entry.key)]
        if len(found) >= limit or len(newest) < _UNFILTERED * limit:
            return found[:limit]
        rest, before = limit - len(found), newest[-1].revision
        return found + await self._bucket.newest_first(f"{tenant}.*.*", rest, before)

    async def _revision(self, tenant: str, cursor: str) -> int:
        if _CURSOR_TEXT.fullmatch(cursor):
            return int(cursor[1:])
        # Before 0.3 a cursor was the last wait of the page.
        parts = [check_id(part, "cursor") for part in cursor.split(".")]
        entry = None
        if len(parts) == _WAIT_PARTS:
            entry = await self._bucket.get_newest(f"{tenant}.{cursor}")
        if entry is None:
            raise InvalidIdError(
                f"cursor: {cursor[:80]!r} is not in this list any more; begin again without one"
            )
        return entry.revision

    async def _get(self, keys: list[str]) -> list[Waiting]:
        found = {entry.key: entry.value for entry in await self._bucket.get_many(keys)}
        for key in keys:
            # The leader has listed the key, but a replica that lags may not have its value yet.
            if key not in found and (entry := await self._bucket.get_newest(key)):
                found[key] = entry.value
        return [_decode(value) for value in found.values()]


def _decode_all(entries: Iterable[BucketEntry]) -> list[Waiting]:
    return [_decode(entry.value) for entry in entries]


def _key(tenant: str, waiting: Waiting) -> str:
    execution = check_id(waiting.execution_id, "execution")
    return f"{check_id(tenant, 'tenant')}.{execution}.{check_id(waiting.node_id, 'node')}"


def _pointers(tenant: str, waiting: Waiting) -> list[str]:
    tenant, _, suffix = _key(tenant, waiting).partition(".")
    return [f"{tenant}.{_token(procedure)}.{suffix}" for procedure in waiting.triggers]


def _token(procedure: str) -> str:
    # One token: "=" is valid in a key, but not in a procedure.
    return check_procedure(procedure).replace(".", "=")


def _is_entry_of(tenant: str, key: str) -> bool:
    owner, *parts = key.split(".")
    return owner == tenant and len(parts) == _WAIT_PARTS
