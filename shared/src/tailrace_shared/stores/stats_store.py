"""The store of what is remembered of runs: two records for each workflow, in one bucket.

Everybody who writes reads the newest, adds, and writes if nobody else has (compare-and-set). A
workflow that has not run for ninety days is forgotten. All of it is statistics: what a worker has
not written when it dies is missing, and a write whose answer was lost may count twice.
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

_MOST_TRIES: Final = 20
_SMALL: Final = 16 * 1024
"""Bytes of a record that are decoded in less than a turn of the loop takes."""
_NODES: Final = ".nodes"


class StatsStore:
    """Reads records, and has them tell of more runs."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(STATS))

    async def add(self, tenant: str, workflow: str, delta: RunDelta) -> None:
        """Have the records of a workflow tell of some more runs; may be called again if it fails.

        Raises:
            UnavailableError: NATS did not answer, or too many others write.
        """
        key = _key(tenant, workflow)
        await self._change(key + _NODES, lambda stored: _with_nodes(stored, delta))
        delta.clear_nodes()
        await self._change(key, lambda stored: _with_runs(stored, delta))

    async def runs(self, tenant: str, workflow: str) -> RunHistory:
        """Return what is remembered of a workflow's runs.

        Raises:
            UnavailableError: NATS did not answer.
        """
        entry = await self._bucket.get(_key(tenant, workflow))
        return RunHistory() if entry is None else decode_runs(entry.value)

    async def runs_of_all(self, tenant: str) -> dict[str, RunHistory]:
        """Return what is remembered of the runs of all workflows of a tenant.

        Raises:
            UnavailableError: NATS did not answer.
        """
        entries = await self._bucket.get_many([f"{check_id(tenant, 'tenant')}.*"])
        return {entry.key.partition(".")[2]: decode_runs(entry.value) for entry in entries}

    async def nodes(self, tenant: str, workflow: str) -> NodeHistory:
        """Return what is remembered of a workflow's nodes.

        Raises:
            UnavailableError: NATS did not answer.
        """
        entry = await self._bucket.get(_key(tenant, workflow) + _NODES)
        if entry is None:
            return NodeHistory()
        if len(entry.value) <= _SMALL:
            return decode_nodes(entry.value)
        return await asyncio.to_thread(decode_nodes, entry.value)

    async def _change(self, key: str, change: Callable[[bytes | None], bytes]) -> None:
        for _ in range(_MOST_TRIES):
            entry = await self._bucket.get_newest(key)
            stored, revision = (None, 0) if entry is None else (entry.value, entry.revision)
            # A large record takes a while; runs must not wait for statistics.
            payload = await asyncio.to_thread(change, stored)
            if await self._bucket.replace(key, payload, revision) is not None:
                return
        raise UnavailableError(f"too many write {key} at once")


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
