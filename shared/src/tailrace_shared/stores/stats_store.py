"""Store run history in two records for each workflow, in one bucket.

A worker reads the newest record, adds its runs, and writes by compare-and-set. The history of a
workflow that has not run for ninety days expires. It is statistics only: runs that a worker has not
written before it dies are missing, and a write whose acknowledgement was lost may count twice.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from tailrace_shared.errors import UnavailableError
from tailrace_shared.estimation import (
    NodeHistory,
    RunDelta,
    RunHistory,
    decode_nodes,
    decode_runs,
    encode_nodes,
    encode_runs,
)
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import STATS
from tailrace_shared.subjects import Subjects

_MAX_TRIES: Final = 20
_INLINE_BYTES: Final = 16 * 1024
"""Larger records are decoded in a thread, so that they do not block the event loop."""
_NODES: Final = ".nodes"


class StatsStore:
    """Reads run history and adds runs to it."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(STATS))

    async def add(self, tenant: str, workflow: str, delta: RunDelta) -> None:
        """Add runs to the history of a workflow. After an error it may be called again.

        Raises:
            UnavailableError: NATS did not answer, or too many workers write at once.
        """
        key = _key(tenant, workflow)
        await self._change(key + _NODES, lambda stored: _with_nodes(stored, delta))
        delta.clear_nodes()
        await self._change(key, lambda stored: _with_runs(stored, delta))

    async def runs(self, tenant: str, workflow: str) -> RunHistory:
        entry = await self._bucket.get(_key(tenant, workflow))
        return RunHistory() if entry is None else decode_runs(entry.value)

    async def runs_of_all(self, tenant: str) -> dict[str, RunHistory]:
        entries = await self._bucket.get_many([f"{check_id(tenant, 'tenant')}.*"])
        return {entry.key.partition(".")[2]: decode_runs(entry.value) for entry in entries}

    async def nodes(self, tenant: str, workflow: str) -> NodeHistory:
        entry = await self._bucket.get(_key(tenant, workflow) + _NODES)
        if entry is None:
            return NodeHistory()
        if len(entry.value) <= _INLINE_BYTES:
            return decode_nodes(entry.value)
        return await asyncio.to_thread(decode_nodes, entry.value)

    async def _change(self, key: str, change: Callable[[bytes | None], bytes]) -> None:
        for _ in range(_MAX_TRIES):
            entry = await self._bucket.get_newest(key)
            stored, revision = (None, 0) if entry is None else (entry.value, entry.revision)
            # A large record takes a while, and must not block the event loop.
            payload = await asyncio.to_thread(change, stored)
            if await self._bucket.replace(key, payload, revision) is not None:
                return
        raise UnavailableError(f"too many concurrent writes of {key}")


def _with_runs(stored: bytes | None, delta: RunDelta) -> bytes:
    record = RunHistory() if stored is None else decode_runs(stored)
    delta.add_to_runs(record)
    return encode_runs(record)


def _with_nodes(stored: bytes | None, delta: RunDelta) -> bytes:
    record = NodeHistory() if stored is None else decode_nodes(stored)
    delta.add_to_nodes(record)
    return encode_nodes(record)


def _key(tenant: str, workflow: str) -> str:
    return f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow')}"
