"""The counters of the hub, plain integers that every write increments and a scrape reads."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tailrace_shared.process.distribution import Distribution

_EVENTS: Final = (0, 1, 10, 100, 1000, 10_000, 100_000)


@dataclass(slots=True)
class Counts:
    """Totals since the process started, unless stated otherwise.

    Attributes:
        resumes: streams whose client sent an id, by where they went on: ``ring`` (memory), ``log``,
            ``reset`` (the id could not be served), ``rejected`` (refused, with a retry delay).
        gaps: events that did not follow the one before on their stream. Always 0: anything else is
            a bug.
        first_byte: seconds from a request to the first byte of its stream, by whether the client
            sent an id.
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
    resumes: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    first_byte: dict[bool, Distribution] = field(
        default_factory=lambda: {False: Distribution(), True: Distribution()}
    )
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
