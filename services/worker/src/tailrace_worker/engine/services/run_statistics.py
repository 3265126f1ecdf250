"""Statistics of the runs that end on this worker: noted at once, written about once a second."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.estimation import RunDelta
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.stores.stats_store import StatsStore

_INTERVAL: Final = 1.0
_MOST_NODES: Final = 50_000
"""Each takes a kilobyte and a half."""
_LARGE: Final = 500
"""Steps from which on a run is not looked through on the loop, where others wait."""
_AT_ONCE: Final = 16

_log = structlog.get_logger(__name__)

_Key = tuple[str, str]


class Statistics:
    """Notes how runs went, and writes it down.

    A worker that dies loses what it has not written; while NATS is away it keeps what it has noted,
    up to so many nodes.

    Args:
        store: where it is written.
        most_nodes: of how many nodes, of all workflows, it keeps what is not written yet.
    """

    def __init__(self, store: StatsStore, most_nodes: int = _MOST_NODES) -> None:
        self._store = store
        self._most_nodes = most_nodes
        self._noted: dict[_Key, RunDelta] = {}
        self._large: defaultdict[_Key, list[ExecutionState]] = defaultdict(list)
        self._nodes = 0
        self._left_out = 0

    def note(self, tenant: str, state: ExecutionState) -> None:
        """Note a run that has ended; costs microseconds for each of its steps."""
        key = (tenant, state.workflow_id)
        delta = self._noted.get(key)
        is_large = len(state.steps) > _LARGE
        if self._nodes >= self._most_nodes and (delta is None or is_large):
            self._left_out += 1
            return
        if is_large:
            self._large[key].append(state)
            self._nodes += len(state.steps)
            return
        if delta is None:
            delta = self._noted[key] = RunDelta()
        before = delta.node_count
        delta.record_run(state)
        self._nodes += delta.node_count - before

    async def run(self) -> None:
        """Write what has been noted, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            await self.flush()

    async def flush(self) -> None:
        """Write what has been noted."""
        await self._look_through_large()
        noted, self._noted, self._nodes = self._noted, {}, 0
        if self._left_out:
            _log.warning("statistics left out", runs=self._left_out)
            self._left_out = 0
        room = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._write(key, delta, room) for key, delta in noted.items()))

    async def _look_through_large(self) -> None:
        while self._large:
            key, states = self._large.popitem()
            delta = RunDelta()
            try:
                await asyncio.to_thread(_add_all, delta, states)
            except asyncio.CancelledError:
                self._large[key] += states
                raise
            self._take_back(key, delta)

    async def _write(self, key: _Key, delta: RunDelta, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                await self._store.add(*key, delta)
            except (UnavailableError, JetStreamError) as error:
                _log.info("statistics not written", workflow=key[1], error=str(error))
                self._take_back(key, delta)
            except msgspec.MsgspecError as error:
                # A record that nobody can read must not keep all others from being written.
                _log.error("statistics unreadable", workflow=key[1], error=str(error))
            except asyncio.CancelledError:
                # The worker stops, and flushes once more.
                self._take_back(key, delta)
                raise

    def _take_back(self, key: _Key, delta: RunDelta) -> None:
        if (newer := self._noted.get(key)) is not None:
            self._nodes -= newer.node_count
            delta.merge(newer)
        self._noted[key] = delta
        self._nodes += delta.node_count


def _add_all(delta: RunDelta, states: Iterable[ExecutionState]) -> None:
    for state in states:
        delta.record_run(state)
