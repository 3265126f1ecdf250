"""Estimators, kept for a few seconds for all who look at runs of the same workflow."""

import asyncio
import time
from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.estimation.estimate import Estimator
from tailrace_shared.estimation.run_history import NodeRecord
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.graph import Graph, graph_of

_MOST_NODES: Final = 50_000
_EARLY: Final = 1.0
"""Seconds for which it is believed that there has been no run: the first may just have ended."""
_SMALL: Final = 50
"""Nodes whose durations are looked up in less than a turn of the loop takes."""

_Key = tuple[str, str, int]


class _Kept(NamedTuple):
    estimator: Estimator
    until: float
    nodes: int


class Estimators:
    """Makes estimators of what is remembered.

    Args:
        store: what is remembered.
        seconds: for how long an estimator may go by the same record.
    """

    def __init__(self, store: StatsStore, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._making: dict[_Key, asyncio.Task[Estimator]] = {}
        self._nodes = 0

    async def of(
        self, tenant: str, definition: Definition, version: int, graph: Graph | None = None
    ) -> Estimator:
        """Return the estimator of a workflow's version; without its history if NATS is away.

        Args:
            tenant: whose workflow.
            definition: the version.
            version: its number.
            graph: its graph, if that is at hand.
        """
        key = (tenant, definition.id, version)
        kept = self._kept.get(key)
        if kept is not None and kept.until > time.monotonic():
            return kept.estimator
        making = self._making.get(key)
        if making is None:
            making = asyncio.create_task(self._make(key, definition, graph))
            self._making[key] = making
            making.add_done_callback(lambda _made: self._making.pop(key))
        # Whoever began it may be cancelled; the others still want it.
        return await asyncio.shield(making)

    async def _make(self, key: _Key, definition: Definition, graph: Graph | None) -> Estimator:
        try:
            record = await self._store.nodes(key[0], key[1])
        except (UnavailableError, JetStreamError, msgspec.MsgspecError):
            # No run may fail for what is only said of it.
            record = NodeRecord()
        if len(definition.nodes) <= _SMALL:
            estimator = _prepared(definition, graph, record)
        else:
            estimator = await asyncio.to_thread(_prepared, definition, graph, record)
        self._keep(key, estimator, len(definition.nodes))
        return estimator

    def _keep(self, key: _Key, estimator: Estimator, nodes: int) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._nodes -= old.nodes
        seconds = self._seconds if estimator.has_history else min(self._seconds, _EARLY)
        self._kept[key] = _Kept(estimator, time.monotonic() + seconds, nodes)
        self._nodes += nodes
        while self._nodes > _MOST_NODES and len(self._kept) > 1:
            _key, oldest = self._kept.popitem(last=False)
            self._nodes -= oldest.nodes


def _prepared(definition: Definition, graph: Graph | None, record: NodeRecord) -> Estimator:
    estimator = Estimator(graph or graph_of(definition), definition.nodes, record)
    estimator.prepare()
    return estimator
