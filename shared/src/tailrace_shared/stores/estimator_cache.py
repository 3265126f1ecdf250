"""Estimators of workflows, cached and shared by all executions of one version."""

import asyncio
from typing import Final

import msgspec

from tailrace_shared.caching.single_flight import SingleFlight
from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.estimation import Estimator, NodeHistory
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.graph import Graph, graph_of

_MAX_NODES: Final = 50_000
_NO_HISTORY_TTL_S: Final = 1.0
"""A workflow without history may just have finished its first run."""
_INLINE_NODES: Final = 50
"""Graphs up to this size are prepared on the loop: it takes less than one turn of it."""

_Key = tuple[str, str, int]


class EstimatorCache:
    """Builds estimators from the stored run history, and caches them.

    Args:
        ttl_s: seconds for which an estimator may use the same history.
    """

    def __init__(self, store: StatsStore, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._cache: TtlCache[_Key, Estimator] = TtlCache(_MAX_NODES)
        self._flights: SingleFlight[_Key, Estimator] = SingleFlight()

    async def get(
        self, tenant: str, definition: Definition, version: int, graph: Graph | None = None
    ) -> Estimator:
        """Return the estimator of a workflow version; without history if NATS is unavailable."""
        key = (tenant, definition.id, version)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        return await self._flights.run(key, lambda: self._build(key, definition, graph))

    async def _build(self, key: _Key, definition: Definition, graph: Graph | None) -> Estimator:
        try:
            record = await self._store.nodes(key[0], key[1])
        except (UnavailableError, JetStreamError, msgspec.MsgspecError):
            # An estimate is optional: its failure must not fail a run.
            record = NodeHistory()
        if len(definition.nodes) <= _INLINE_NODES:
            estimator = _prepared(definition, graph, record)
        else:
            estimator = await asyncio.to_thread(_prepared, definition, graph, record)
        ttl_s = self._ttl_s if estimator.has_history else min(self._ttl_s, _NO_HISTORY_TTL_S)
        self._cache.put(key, estimator, len(definition.nodes), ttl_s)
        return estimator


def _prepared(definition: Definition, graph: Graph | None, record: NodeHistory) -> Estimator:
    estimator = Estimator(graph or graph_of(definition), definition.nodes, record)
    estimator.prepare()
    return estimator
