"""Timing and limits of the streams of one process."""

from typing import NamedTuple


class RingBounds(NamedTuple):
    """The capacity of a topic's ring.

    Attributes:
        events: blocks, and commits without any.
    """

    events: int
    bytes: int

    def share(self, part: float) -> "RingBounds":
        """Return bounds scaled to a part of a whole ring."""
        return RingBounds(max(int(self.events * part), 1), int(self.bytes * part))


class StreamTimes(NamedTuple):
    """Timing of streams, in seconds.

    Attributes:
        heartbeat: silence after which a stream sends a heartbeat.
        retry: mean of the reconnect delays sent to clients.
        stall: time after which a client that reads nothing is disconnected.
        age: mean age at which a stream is closed; 0 disables the limit.
        lazy_interval: maximum delay of a write that is not urgent.
    """

    heartbeat: float
    retry: float
    stall: float
    age: float
    lazy_interval: float = 0.0


class StreamLimits(NamedTuple):
    """Resource limits of streams.

    Attributes:
        reads: queued reads of history, beyond which new streams are refused.
        backlog: bytes buffered for slow clients.
        topics: bytes of memory for all topics.
        tenant_topics: bytes of memory for the topics of one tenant.
    """

    streams: int
    tenant_streams: int
    reads: int
    backlog: int
    ring: RingBounds
    topics: int
    tenant_topics: int
