"""What the hub counts. Plain numbers: they are added to with every write, and read by a scrape."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_EVENTS: Final = (0, 1, 10, 100, 1000, 10_000, 100_000)


class Distribution:
    """How often values fell where.

    Attributes:
        bounds: the upper bound of each bucket but the last, which has none.
        buckets: how many values fell into each.
        total: the sum of all values.
    """

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Counts:
    """Everything since the process began, except where it says otherwise.

    Attributes:
        opened: streams that were opened.
        closed: streams that were closed, by reason.
        refused: streams that were told to come back later, by reason.
        resets: streams that began with a reset.
        events: events that were written, counted for each client.
        writes: pieces in which they were written; several events may share one.
        written_bytes: bytes of events that were written, chunk framing included.
        slow: streams whose clients do not keep up, now.
        stalls: how often a client did not keep up.
        depth: events of history that streams began with, of those that needed the log.
        reads: reads of the log for streams.
        shared_reads: reads that were spared because another stream wanted the same.
        repairs: how often live commits were missing and were read from the log.
        lag: seconds between a commit and its last write.
        stall: how late the event loop came to its timers, in seconds.
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
