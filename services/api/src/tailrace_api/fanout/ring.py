"""A ring: the newest commits of a topic, encoded, without a gap.

It is bounded in events and in bytes, and shared by all connections of the topic; who is behind
its floor reads from the log instead.
"""

from bisect import bisect_left
from collections.abc import Sequence

from tailrace_api.dialects.dialect import EncodedCommit


class Ring:
    """The commits of one topic from a floor on.

    Attributes:
        floor: every commit of the topic with this sequence or a higher one is in the ring.
        edge: the sequence of the newest commit that the ring has seen.
    """

    def __init__(self, edge: int, *, max_events: int, max_bytes: int) -> None:
        self.floor = edge + 1
        self.edge = edge
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events = 0
        self._bytes = 0
        # A list with a moving start: a deque would make the search below linear.
        self._commits: list[EncodedCommit] = []
        self._start = 0

    def append(self, commit: EncodedCommit) -> None:
        """Add the newest commit and drop the oldest ones beyond the bounds."""
        self._commits.append(commit)
        self.edge = commit.sequence
        self._events += len(commit.frames)
        self._bytes += len(commit.joined)
        # The newest stays whatever its size: those who are up to date take it from here.
        while (
            self._events > self._max_events or self._bytes > self._max_bytes
        ) and self._start < len(self._commits) - 1:
            self._drop()
        if self._start > len(self._commits) // 2:
            del self._commits[: self._start]
            self._start = 0

    def _drop(self) -> None:
        oldest = self._commits[self._start]
        self._start += 1
        self.floor = oldest.sequence + 1
        self._events -= len(oldest.frames)
        self._bytes -= len(oldest.joined)

    def take(self, sequence: int, max_bytes: int) -> Sequence[EncodedCommit]:
        """Return commits from ``sequence`` on, which is at or above the floor.

        There is at least one if there are any, and no more than ``max_bytes`` hold.
        """
        first = bisect_left(
            self._commits, sequence, lo=self._start, key=lambda commit: commit.sequence
        )
        end, size = first, 0
        while end < len(self._commits) and (end == first or size < max_bytes):
            size += len(self._commits[end].joined)
            end += 1
        return self._commits[first:end]
