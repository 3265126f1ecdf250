"""Durations of nodes from earlier runs, as samples for the simulations of an estimate."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final
from zlib import crc32

from tailrace_shared.estimation.run_history import NodeHistory
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.estimation.slowdown import Durations
from tailrace_shared.estimation.variance import Variance, split_variance

_MIN_RUNS: Final = 5
"""Runs that are needed to tell how much whole runs differ."""


class DurationTables:
    """Looks up and caches durations, in seconds."""

    def __init__(self, history: NodeHistory, nodes: Iterable[str], simulations: int) -> None:
        self._history = history
        self._nodes = nodes
        self._simulations = simulations
        self._shares = [(index + 0.5) / simulations for index in range(simulations)]
        self._by_node: dict[str, Durations | None] = {}
        self._by_type: dict[str, Durations | None] = {}

    def of_node(self, name: str) -> Durations | None:
        """Return a node's duration for each simulation, or None without history."""
        if name not in self._by_node:
            table = self._shuffled(name, self._history.durations.get(name))
            self._by_node[name] = None if table is None else self.variance.without_run(table)
        return self._by_node[name]

    def of_type(self, name: str, node_type: str) -> Durations | None:
        """Return the durations of all nodes of a type, for a node without history."""
        if node_type not in self._by_type:
            self._by_type[node_type] = self._shuffled(name, self._history.types.get(node_type))
        return self._by_type[node_type]

    @cached_property
    def variance(self) -> Variance:
        work = Sketch.unpack(self._history.work)
        if work.count < _MIN_RUNS:
            return Variance()
        shuffled = (self._shuffled(node, self._history.durations.get(node)) for node in self._nodes)
        nodes = [table for table in shuffled if table is not None]
        return split_variance(nodes, work.quantiles(self._shares))

    def permutation(self, name: str) -> Sequence[int]:
        """Return a permutation of the simulations that depends on the name only."""
        seed, count = crc32(name.encode()), self._simulations
        start, stride = seed % count, 1 + seed // count % (count - 1)
        return [(start + stride * index) % count for index in range(count)]

    def _shuffled(self, name: str, packed: Sequence[int] | None) -> Durations | None:
        if packed is None:
            return None
        quantiles = Sketch.unpack(packed).quantiles(self._shares)
        return [quantiles[rank] / 1000 for rank in self.permutation(name)] if quantiles else None
