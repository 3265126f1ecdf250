"""Join consecutive commits to one bytes object, which all recipients share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_shared.position import StreamPosition


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive commits, as a connection writes them.

    Attributes:
        wire: the frames with chunk framing; empty if no event is shown.
        next_sequence: the lowest sequence that the next commit can have.
        last_seen: the position of the last event; None if there is none.
        last_shown: the position of the last event that is shown; None if there is none.
        is_last: whether the stream ends after this batch.
        first_sequence: the sequence of the first commit; 0 if there is none.
        previous: the sequence of the commit before the first one; 0 if it does not matter.
    """

    wire: bytes
    events: int
    next_sequence: int
    last_seen: StreamPosition | None
    last_shown: StreamPosition | None
    is_last: bool
    first_sequence: int = 0
    previous: int = 0

    @classmethod
    def of(cls, epoch: str, commits: Sequence[EncodedCommit], index: int = 0) -> Self:
        """Join commits, beginning with the event at ``index`` of the first one."""
        chunks, events = [], 0
        last_seen = last_shown = None
        is_last = False
        for commit in commits:
            chunks.append(commit.since(index))
            events += commit.shown(index)
            if commit.last_index >= 0:
                last_seen = StreamPosition(epoch, commit.sequence, commit.last_index)
            if (shown := commit.last_shown(index)) is not None:
                last_shown = StreamPosition(epoch, commit.sequence, shown)
            is_last = is_last or commit.is_last
            index = 0
        # Joining a single chunk returns the same object, so nothing is copied.
        wire = b"".join(chunks)
        first = commits[0]
        return cls(
            wire,
            events,
            commits[-1].sequence + 1,
            last_seen,
            last_shown,
            is_last,
            first.sequence,
            first.previous,
        )
