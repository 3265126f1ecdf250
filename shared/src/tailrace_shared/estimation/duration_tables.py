"""What a record says of how long nodes take, laid out for plays: a duration for each. Pure."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final
from zlib import crc32

from tailrace_shared.estimation.run_history import NodeRecord
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.estimation.slowdown import Durations
from tailrace_shared.estimation.variance import Variance, spread_of

_TELLING_RUNS: Final = 5
"""Runs from which on a record tells how much whole runs differ."""


class DurationTables:
    """Looks durations up, in seconds, and remembers what it found.

    Args:
        record: what is remembered of earlier runs.
        nodes: the ids of the workflow's nodes.
        plays: how many durations each table has.
    """

    def __init__(self, record: NodeRecord, nodes: Iterable[str], plays: int) -> None:
        self._record = record
        self._nodes = nodes
        self._plays = plays
        self._shares = [(play + 0.5) / plays for play in range(plays)]
        self._tables: dict[str, Durations | None] = {}
        self._types: dict[str, Durations | None] = {}

    def of(self, name: str) -> Durations | None:
        """Return how long a node takes in each play; None if the record knows nothing."""
        if name not in self._tables:
            table = self._shuffled(name, self._record.durations.get(name))
            self._tables[name] = None if table is None else self.spread.narrowed(table)
        return self._tables[name]

    def of_type(self, name: str, node_type: str) -> Durations | None:
        """Return the same of all nodes of a type, for a node of which nothing is known."""
        if node_type not in self._types:
            self._types[node_type] = self._shuffled(name, self._record.types.get(node_type))
        return self._types[node_type]

    @cached_property
    def spread(self) -> Variance:
        """How much of what differs is the run's, and how much the steps'."""
        work = Sketch.unpack(self._record.work)
        if work.count < _TELLING_RUNS:
            return Variance()
        shuffled = (self._shuffled(node, self._record.durations.get(node)) for node in self._nodes)
        nodes = [table for table in shuffled if table is not None]
        return spread_of(nodes, work.quantiles(self._shares))

    def order(self, name: str) -> Sequence[int]:
        """Return the ranks of 0 to plays - 1 in an order of the name's own, always the same."""
        drawn, plays = crc32(name.encode()), self._plays
        begin, stride = drawn % plays, 1 + drawn // plays % (plays - 1)
        return [(begin + stride * play) % plays for play in range(plays)]

    def _shuffled(self, name: str, packed: Sequence[int] | None) -> Durations | None:
        if packed is None:
            return None
        quantiles = Sketch.unpack(packed).quantiles(self._shares)
        return [quantiles[rank] / 1000 for rank in self.order(name)] if quantiles else None
