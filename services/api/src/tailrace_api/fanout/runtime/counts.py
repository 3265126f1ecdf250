"""The counters of the hub, plain integers that every write increments and a scrape reads."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_EVENTS: Final = (0, 1, 10, 100, 1000, 10_000, 100_000)


class Distribution:
    """A histogram.

    Attributes:
        bounds: the upper bound of each bucket except the last, which is unbounded.
    """

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Counts:
    """Totals since the process started, unless stated otherwise.

    Attributes:
        refused: streams refused with a retry delay, by reason.
        events: events written, counted once per client.
        writes: writes that carried them; several events may share one.
        written_bytes: bytes of events written, chunk framing included.
        stalls: times a client became slow.
        depth: events of history per stream, for streams that read the log.
        reads: reads of the log for streams.
        shared_reads: reads saved because another stream had requested the same.
        repairs: times live commits were missing and were read from the log.
        lag: seconds between a commit and its last write.
        stall: delay of the event loop's timers, in seconds.
    """

    opened: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    events: int = 0
    writes: int = 0
    written_bytes: int = 0
    slow: int = 0
    stalls: int = 0
    depth: Distribution = field(default_factory=lambda: Distribution(_EVENTS))
    reads: int = 0
    shared_reads: int = 0
    repairs: int = 0
    lag: Distribution = field(default_factory=Distribution)
    stall: Distribution = field(default_factory=Distribution)
