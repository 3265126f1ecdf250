"""The stored history of a workflow's runs, in two records of bounded size.

The run history is small, so that the API can read all workflows of a tenant at once. The node
history has the durations of each node. Old runs decay: when a sketch has seen its maximum number
of values, every second value is dropped. A workflow that runs once a month keeps months of
history, and one that runs every second keeps a quarter of an hour.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from tailrace_shared.estimation.sketch import Sketch, count_of

MINUTES: Final = 60
"""Minutes for which runs are counted by the minute."""

RUN_BINS: Final = 256
NODE_BINS: Final = 24
_MAX_RUNS: Final = 1024
_MAX_STEPS: Final = 256
_MAX_STEPS_OF_TYPE: Final = 4096
# Bins of a node's sketch in a record that would be too large. With even fewer bins, its quantiles
# would be worse than those of the node's type.
_FEWER_BINS: Final = (12, 6)
MAX_BYTES: Final = 448 * 1024


class RunHistory(msgspec.Struct, omit_defaults=True):
    """The history of whole runs.

    Attributes:
        minutes: completed, failed and cancelled runs of the last hour, by minute since the epoch.
        durations: sketch of the durations of completed runs, in milliseconds.
        steps: sketch of the durations of successful steps, in milliseconds.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    minutes: dict[int, tuple[int, int, int]] = {}
    durations: list[int] = []
    steps: list[int] = []

    def decay(self) -> None:
        newest = max(self.minutes, default=0)
        self.minutes = {m: ended for m, ended in self.minutes.items() if m > newest - MINUTES}
        self.durations = decayed(self.durations, _MAX_RUNS)
        self.steps = decayed(self.steps, _MAX_STEPS_OF_TYPE)


class FailureCounts(msgspec.Struct, array_like=True):
    """Outcomes of a node other than success at the first attempt.

    Attributes:
        retries: attempts that were followed by another one.
        lost_ms: total time before the successful attempts started, in milliseconds.
    """

    failed: int = 0
    retries: int = 0
    skipped: int = 0
    lost_ms: int = 0

    def add(self, other: "FailureCounts") -> None:
        self.failed += other.failed
        self.retries += other.retries
        self.skipped += other.skipped
        self.lost_ms += other.lost_ms

    def halve(self) -> None:
        self.failed //= 2
        self.retries //= 2
        self.skipped //= 2
        self.lost_ms //= 2

    def __bool__(self) -> bool:
        return bool(self.failed or self.retries or self.skipped or self.lost_ms)


class NodeHistory(msgspec.Struct, omit_defaults=True):
    """The history of a workflow's nodes.

    Attributes:
        durations: by node, the sketch of the durations of successful attempts, in milliseconds;
            under :func:`items_key` that of a map's items.
        failures: by node, its other outcomes (stored as ``troubles``).
        types: like ``durations``, by node type, for nodes without history.
        work: sketch of the total duration of a run's steps, in milliseconds.
    """

    durations: dict[str, list[int]] = {}
    failures: dict[str, FailureCounts] = msgspec.field(name="troubles", default_factory=dict)
    types: dict[str, list[int]] = {}
    work: list[int] = []

    def decay(self) -> None:
        self.work = decayed(self.work, _MAX_STEPS)
        self.types = {
            name: decayed(sketch, _MAX_STEPS_OF_TYPE) for name, sketch in self.types.items()
        }
        for node, sketch in self.durations.items():
            if count_of(sketch) > _MAX_STEPS:
                self.durations[node] = decayed(sketch, _MAX_STEPS)
                if failures := self.failures.get(node):
                    failures.halve()
        for failures in self.failures.values():
            if failures.failed + failures.skipped > _MAX_STEPS:
                failures.halve()
        self.failures = {node: failures for node, failures in self.failures.items() if failures}


def items_key(map_id: str) -> str:
    """Return the key of a map's items, which cannot be the id of a node."""
    return f"{map_id}[]"


def decayed(packed: list[int], max_count: int) -> list[int]:
    """Return a packed sketch, halved until it has seen at most ``max_count`` values."""
    if count_of(packed) <= max_count:
        return packed
    sketch = Sketch.unpack(packed)
    while sketch.count > max_count:
        sketch.halve()
    return sketch.pack()


encode_runs: Callable[[RunHistory], bytes] = msgspec.json.Encoder().encode
decode_runs = msgspec.json.Decoder(RunHistory).decode
decode_nodes = msgspec.json.Decoder(NodeHistory).decode


def encode_nodes(history: NodeHistory) -> bytes:
    """Encode a node history in at most ``MAX_BYTES``.

    A history that is too large gets coarser sketches first. If that is not enough, the fastest
    nodes are dropped: an estimate uses the mean of their type instead, at a small error.
    """
    payload = msgspec.json.encode(history)
    for bins in _FEWER_BINS:
        if len(payload) <= MAX_BYTES:
            return payload
        for node, sketch in history.durations.items():
            history.durations[node] = Sketch.unpack(sketch, bins).pack()
        payload = msgspec.json.encode(history)
    while len(payload) > MAX_BYTES:
        _drop_fastest(history, MAX_BYTES / len(payload))
        payload = msgspec.json.encode(history)
    return payload


def _drop_fastest(history: NodeHistory, share: float) -> None:
    medians = {
        node: Sketch.unpack(sketch).quantile(0.5) or 0.0
        for node, sketch in history.durations.items()
    }
    longest = sorted(medians, key=lambda node: medians[node], reverse=True)
    kept = set(longest[: int(len(longest) * share * 0.95)])
    history.durations = {node: s for node, s in history.durations.items() if node in kept}
    history.failures = {node: f for node, f in history.failures.items() if node in kept}
