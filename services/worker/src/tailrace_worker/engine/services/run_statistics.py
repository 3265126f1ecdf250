"""Collect statistics of the runs that end on this worker, and write them about once a second."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.estimation import RunDelta
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.stores.stats_store import StatsStore

_INTERVAL_S: Final = 1.0
_MAX_NODES: Final = 50_000
"""Each node takes about 1.5 KB."""
_LARGE_STEPS: Final = 500
"""Runs of more steps are added in a thread, so that they do not block the event loop."""
_MAX_WRITES: Final = 16

_log = structlog.get_logger(__name__)

_Key = tuple[str, str]


class Statistics:
    """Collects and writes the statistics of runs.

    A worker that dies loses what it has not written. While NATS is away it collects more, up to
    ``max_nodes`` nodes.

    Args:
        max_nodes: limit for nodes, of all workflows, whose statistics are not written yet.
    """

    def __init__(self, store: StatsStore, max_nodes: int = _MAX_NODES) -> None:
        self._store = store
        self._max_nodes = max_nodes
        self._pending: dict[_Key, RunDelta] = {}
        self._large: defaultdict[_Key, list[ExecutionState]] = defaultdict(list)
        self._nodes = 0
        self._dropped = 0
        self._outage_log = LogThrottle()

    def note(self, tenant: str, state: ExecutionState) -> None:
        """Add a run that has ended; takes microseconds for each of its steps."""
        try:
            self._note(tenant, state)
        except Exception:  # noqa: BLE001
            # Statistics are optional: an error must not end the drive.
            _log.exception("statistics: run not counted", execution=state.execution_id)

    def _note(self, tenant: str, state: ExecutionState) -> None:
        key = (tenant, state.workflow_id)
        delta = self._pending.get(key)
        is_large = len(state.steps) > _LARGE_STEPS
        if self._nodes >= self._max_nodes and (delta is None or is_large):
            self._dropped += 1
            return
        if is_large:
            self._large[key].append(state)
            self._nodes += len(state.steps)
            return
        if delta is None:
            delta = self._pending[key] = RunDelta()
        before = delta.node_count
        delta.record_run(state)
        self._nodes += delta.node_count - before

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        await self._add_large()
        pending, self._pending, self._nodes = self._pending, {}, 0
        if self._dropped:
            _log.warning("statistics: dropped runs", runs=self._dropped)
            self._dropped = 0
        room = asyncio.Semaphore(_MAX_WRITES)
        await asyncio.gather(*(self._write(key, delta, room) for key, delta in pending.items()))

    async def _add_large(self) -> None:
        while self._large:
            key, states = self._large.popitem()
            delta = RunDelta()
            try:
                await asyncio.to_thread(_add_all, delta, states)
            except asyncio.CancelledError:
                self._large[key] += states
                raise
            self._put_back(key, delta)

    async def _write(self, key: _Key, delta: RunDelta, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                await self._store.add(*key, delta)
            except (UnavailableError, JetStreamError) as error:
                if self._outage_log.is_due():
                    _log.info("statistics: write failed", workflow=key[1], error=str(error))
                self._put_back(key, delta)
            except msgspec.MsgspecError as error:
                # One unreadable record must not stop the writes of all others.
                _log.error("statistics: unreadable record", workflow=key[1], error=str(error))
            except asyncio.CancelledError:
                # The worker stops, and flushes once more after this.
                self._put_back(key, delta)
                raise

    def _put_back(self, key: _Key, delta: RunDelta) -> None:
        if (newer := self._pending.get(key)) is not None:
            self._nodes -= newer.node_count
            delta.merge(newer)
        self._pending[key] = delta
        self._nodes += delta.node_count


def _add_all(delta: RunDelta, states: Iterable[ExecutionState]) -> None:
    for state in states:
        delta.record_run(state)
