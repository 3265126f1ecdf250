"""A ring buffer of the newest commits of a topic, encoded and without a gap.

It is bounded in events and bytes, and shared by all connections of the topic. Most connections are
at the same position, so the batch from a position is joined once and cached. When the memory budget
is used up, the ring holds only what has not been sent.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.position import StreamPosition

# The size of one write, and so what a stalled connection holds.
_BATCH_BYTES: Final = 64 * 1024
# Cached batches: most connections wait for the newest commits, a few are at some place behind.
_MAX_JOINED: Final = 8


class Ring:
    """The commits of one topic from a floor on.

    Args:
        edge: the sequence of the newest commit before the ring's first.
        index: the index of the last slot in that commit; None if unknown.

    Attributes:
        floor: the ring holds every commit of the topic from this sequence on.
        edge: the sequence of the newest commit that was appended.
    """

    def __init__(
        self,
        epoch: str,
        edge: int,
        *,
        max_events: int,
        max_bytes: int,
        account: MemoryAccount,
        index: int | None = None,
    ) -> None:
        self.floor = edge + 1
        self.edge = edge
        self._epoch = epoch
        self._start_position = StreamPosition(epoch, edge, index or 0)
        self._is_start_exact = index is not None
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._account = account
        self._events = 0
        self._bytes = 0
        # A list with a moving start: a deque would make the search below linear.
        self._commits: list[EncodedCommit] = []
        self._start = 0
        self._joined: dict[int, Batch] = {}
        self._joined_bytes = 0

    def append(self, commit: EncodedCommit) -> None:
        """Append the newest commit and evict the oldest ones beyond the bounds."""
        self._clear_joined()
        self.edge = commit.sequence
        if self._commits and commit.is_blank and self._commits[-1].is_blank:
            # Many topics show nothing of most commits of a busy tenant; the last represents all.
            self._commits[-1] = commit
            return
        self._commits.append(commit)
        self._events += len(commit.ends)
        self._bytes += len(commit.chunk)
        self._account.add(commit.size)
        # The newest commit always stays: connections at the edge read it from here.
        while (
            self._events > self._max_events or self._bytes > self._max_bytes
        ) and self._start < len(self._commits) - 1:
            self._evict_oldest()
        if self._start > len(self._commits) // 2:
            del self._commits[: self._start]
            self._start = 0

    def evict_through(self, sequence: int) -> None:
        """Evict all commits up to and including a sequence.

        Connections that keep up have them; the others resume from the log.
        """
        if self.edge <= sequence:
            self._start_position, self._is_start_exact = self.end, True
        while self._start < len(self._commits) and self._commits[self._start].sequence <= sequence:
            self._evict_oldest()
        del self._commits[: self._start]
        self._start = 0
        self._clear_joined()

    @property
    def end(self) -> StreamPosition:
        """The position of the newest event appended so far."""
        if not self._commits:
            return self._start_position
        return StreamPosition(self._epoch, self.edge, max(len(self._commits[-1].ends) - 1, 0))

    def after(self, position: StreamPosition) -> tuple[int, int] | None:
        """Return the cursor after an event.

        Returns:
            The lowest sequence that the next event's commit can have, and the event's index; None
            if the ring does not know whether the event exists.
        """
        sequence, index = position.sequence, position.index + 1
        if position.epoch != self._epoch or not self.floor - 1 <= sequence <= self.edge:
            return None
        if (commit := self.find(sequence)) and index < len(commit.ends):
            return sequence, index
        if sequence < self.floor and not (
            self._is_start_exact and position == self._start_position
        ):
            return None
        return sequence + 1, 0

    def _evict_oldest(self) -> None:
        oldest = self._commits[self._start]
        self._start += 1
        self.floor = oldest.sequence + 1
        self._events -= len(oldest.ends)
        self._bytes -= len(oldest.chunk)
        self._account.add(-oldest.size)

    def find(self, sequence: int) -> EncodedCommit | None:
        """Return the commit at a sequence, if it is in the ring."""
        first = self._first(sequence)
        if first < len(self._commits) and self._commits[first].sequence == sequence:
            return self._commits[first]
        return None

    def take(self, sequence: int, max_bytes: int) -> Sequence[EncodedCommit]:
        """Return commits from ``sequence`` on, which must not be below the floor.

        Returns about ``max_bytes`` bytes, but at least one commit if there is any.
        """
        first = self._first(sequence)
        end, size = first, 0
        while end < len(self._commits) and (end == first or size < max_bytes):
            size += len(self._commits[end].chunk)
            end += 1
        return self._commits[first:end]

    def batch(self, sequence: int, index: int = 0) -> Batch:
        """Return a batch of commits from ``sequence`` on; the ring must hold at least one.

        The commit at ``sequence``, if it exists, is included from the event ``index`` on.
        """
        if index and (commits := self.take(sequence, _BATCH_BYTES)):
            skipped = index if commits[0].sequence == sequence else 0
            return Batch.of(self._epoch, commits, skipped)
        batch = self._joined.get(sequence)
        if batch is None:
            if len(self._joined) >= _MAX_JOINED:
                self._clear_joined()
            commits = self.take(sequence, _BATCH_BYTES)
            batch = self._joined[sequence] = Batch.of(self._epoch, commits)
            if len(commits) > 1:
                # A batch of one commit shares its bytes with the ring.
                self._joined_bytes += len(batch.wire)
                self._account.add(len(batch.wire))
        return batch

    def _clear_joined(self) -> None:
        self._joined.clear()
        self._account.add(-self._joined_bytes)
        self._joined_bytes = 0

    def _first(self, sequence: int) -> int:
        return bisect_left(
            self._commits, sequence, lo=self._start, key=lambda commit: commit.sequence
        )
