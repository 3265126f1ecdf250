"""What is remembered of a workflow's runs: two records, which never grow beyond what they may.

One is small and tells of whole runs, so that all workflows of a tenant can be read at once. The
other tells of each node. Old runs fade: where a sketch has seen so many values, every second one
is forgotten. So a workflow that runs once a month remembers its months, and one that runs every
second its last quarter of an hour.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from tailrace_shared.estimation.sketch import Sketch, count_of

MINUTES: Final = 60
"""How many minutes back runs are counted by the minute."""

RUN_BINS: Final = 256
NODE_BINS: Final = 24
_MOST_RUNS: Final = 1024
_MOST_STEPS: Final = 256
_MOST_OF_TYPE: Final = 4096
# What a sketch of a node is left with where a record would be too large; with fewer bins its
# quantiles would tell less than those of the node's type.
_FEWER_BINS: Final = (12, 6)
MAX_BYTES: Final = 448 * 1024


class RunRecord(msgspec.Struct, omit_defaults=True):
    """What is remembered of whole runs.

    Attributes:
        completed: runs that completed, ever.
        failed: runs that failed, ever.
        cancelled: runs that were cancelled, ever.
        minutes: of the last hour, by minute since the epoch, how many runs completed, failed,
            were cancelled.
        durations: the sketch of how long completed runs took, in milliseconds.
        steps: the sketch of how long the steps took that succeeded, in milliseconds.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    minutes: dict[int, tuple[int, int, int]] = {}
    durations: list[int] = []
    steps: list[int] = []

    def fade(self) -> None:
        """Forget what is old."""
        newest = max(self.minutes, default=0)
        self.minutes = {m: ended for m, ended in self.minutes.items() if m > newest - MINUTES}
        self.durations = faded(self.durations, _MOST_RUNS)
        self.steps = faded(self.steps, _MOST_OF_TYPE)


class FailureCounts(msgspec.Struct, array_like=True):
    """What else became of a node than success at the first attempt.

    Attributes:
        failed: how often it failed for good.
        retries: attempts that another one followed.
        skipped: how often it was skipped.
        lost_ms: how long it took in all before the attempts began that succeeded.
    """

    failed: int = 0
    retries: int = 0
    skipped: int = 0
    lost_ms: int = 0

    def add(self, other: "FailureCounts") -> None:
        """Take other trouble with the same node into account."""
        self.failed += other.failed
        self.retries += other.retries
        self.skipped += other.skipped
        self.lost_ms += other.lost_ms

    def halve(self) -> None:
        """Forget half of it."""
        self.failed //= 2
        self.retries //= 2
        self.skipped //= 2
        self.lost_ms //= 2

    def __bool__(self) -> bool:
        return bool(self.failed or self.retries or self.skipped or self.lost_ms)


class NodeRecord(msgspec.Struct, omit_defaults=True):
    """What is remembered of a workflow's nodes.

    Attributes:
        durations: by node, the sketch of how long successful attempts took, in milliseconds; of
            what a map does for an item under :func:`items_of` the map.
        troubles: by node, what else became of it.
        types: the same as ``durations`` by node type, for nodes of which nothing is known.
        work: the sketch of how long all steps of a run took together, in milliseconds.
    """

    durations: dict[str, list[int]] = {}
    troubles: dict[str, FailureCounts] = {}
    types: dict[str, list[int]] = {}
    work: list[int] = []

    def fade(self) -> None:
        """Forget what is old."""
        self.work = faded(self.work, _MOST_STEPS)
        self.types = {name: faded(sketch, _MOST_OF_TYPE) for name, sketch in self.types.items()}
        for node, sketch in self.durations.items():
            if count_of(sketch) > _MOST_STEPS:
                self.durations[node] = faded(sketch, _MOST_STEPS)
                if trouble := self.troubles.get(node):
                    trouble.halve()
        for trouble in self.troubles.values():
            if trouble.failed + trouble.skipped > _MOST_STEPS:
                trouble.halve()
        self.troubles = {node: trouble for node, trouble in self.troubles.items() if trouble}


def items_of(map_id: str) -> str:
    """Return the name under which a map's items are remembered; no node can have it."""
    return f"{map_id}[]"


def faded(packed: list[int], most: int) -> list[int]:
    """Return a packed sketch, halved if it has seen more than so many values."""
    if count_of(packed) <= most:
        return packed
    sketch = Sketch.unpack(packed)
    while sketch.count > most:
        sketch.halve()
    return sketch.pack()


encode_runs: Callable[[RunRecord], bytes] = msgspec.json.Encoder().encode
decode_runs = msgspec.json.Decoder(RunRecord).decode
decode_nodes = msgspec.json.Decoder(NodeRecord).decode


def encode_nodes(record: NodeRecord, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode a record, having it know less where it would be too large.

    First its sketches become coarser; if that is not enough, the nodes are forgotten that take
    the least time: an estimate takes the mean of their type for them, and errs little by it.
    """
    payload = msgspec.json.encode(record)
    for bins in _FEWER_BINS:
        if len(payload) <= max_bytes:
            return payload
        for node, sketch in record.durations.items():
            record.durations[node] = Sketch.unpack(sketch, bins).pack()
        payload = msgspec.json.encode(record)
    while len(payload) > max_bytes:
        _forget_the_shortest(record, max_bytes / len(payload))
        payload = msgspec.json.encode(record)
    return payload


def _forget_the_shortest(record: NodeRecord, share: float) -> None:
    medians = {
        node: Sketch.unpack(sketch).quantile(0.5) or 0.0
        for node, sketch in record.durations.items()
    }
    longest = sorted(medians, key=lambda node: medians[node], reverse=True)
    kept = set(longest[: int(len(longest) * share * 0.95)])
    record.durations = {node: s for node, s in record.durations.items() if node in kept}
    record.troubles = {node: t for node, t in record.troubles.items() if node in kept}
