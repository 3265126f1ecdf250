"""Counts of each queue in this process; only the connection's loop writes them."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class QueueCounts:
    """The counts of one queue.

    Attributes:
        enqueued: messages that JetStream confirmed, delayed ones included.
        delivered: messages that arrived in this process, redeliveries included.
        redelivered: messages that arrived and had been delivered before.
    """

    enqueued: int = 0
    delivered: int = 0
    redelivered: int = 0
    dead: int = 0
    in_flight: int = 0


Counts = defaultdict[str, QueueCounts]


def new_counts() -> Counts:
    """Return counts that start at zero for every queue."""
    return defaultdict(QueueCounts)
