"""What this process has done with each queue, counted where it happens: on the loop."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class QueueCounts:
    """The counts of one queue.

    Attributes:
        enqueued: messages that JetStream confirmed, delayed ones included.
        delivered: messages that arrived here, redeliveries included.
        redelivered: those of them that had been delivered before.
        dead: messages that became dead letters here.
        in_flight: messages held here now.
    """

    enqueued: int = 0
    delivered: int = 0
    redelivered: int = 0
    dead: int = 0
    in_flight: int = 0


Counts = defaultdict[str, QueueCounts]


def new_counts() -> Counts:
    """Return counts that begin at zero for every queue."""
    return defaultdict(QueueCounts)
