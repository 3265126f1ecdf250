"""A batch: some commits in a row as one piece of bytes, the same for everybody who gets it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tailrace_api.dialects.dialect import EncodedCommit
from tailrace_shared.position import StreamPosition


@dataclass(frozen=True, slots=True)
class Batch:
    """What a connection is given at once.

    Attributes:
        wire: the frames, with chunk framing; empty if no event is shown.
        events: how many events are shown.
        next_sequence: the commit that comes next has this sequence or a higher one.
        seen: the position of the last event; None if there is none.
        told: the position of the last event that is shown; None if none is.
        is_last: whether nothing will ever follow.
    """

    wire: bytes
    events: int
    next_sequence: int
    seen: StreamPosition | None
    told: StreamPosition | None
    is_last: bool

    @classmethod
    def of(cls, epoch: str, commits: Sequence[EncodedCommit], index: int = 0) -> Self:
        """Return a batch of commits, of the first one from the event at ``index`` on."""
        chunks, events = [], 0
        seen = told = None
        is_last = False
        for commit in commits:
            chunks.append(commit.since(index))
            events += commit.shown(index)
            if commit.ends:
                seen = StreamPosition(epoch, commit.sequence, len(commit.ends) - 1)
            if (shown := commit.last_shown(index)) is not None:
                told = StreamPosition(epoch, commit.sequence, shown)
            is_last = is_last or commit.is_last
            index = 0
        # Of one chunk a join returns the chunk itself.
        wire = b"".join(chunks)
        return cls(wire, events, commits[-1].sequence + 1, seen, told, is_last)
