"""A ring: the newest commits of a topic, encoded, without a gap.

It is bounded in events and in bytes, and shared by all connections of the topic. Most of them
stand at the same place, so what is taken from a place is joined once. Where all topics together
keep too much, it holds only what has yet to be written.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from tailrace_api.dialects.dialect import EncodedCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.position import StreamPosition

# What a connection is given at once, and so what a stalled one holds.
_BATCH_BYTES: Final = 64 * 1024
# Most connections stand where the newest commits begin, some somewhere behind.
_JOINED: Final = 8


class Ring:
    """The commits of one topic from a floor on.

    Args:
        epoch: the epoch of the log.
        edge: the sequence of the newest commit before the ring's first.
        max_events: how many events the ring holds.
        max_bytes: how many bytes of frames it holds.
        account: where it says what it takes of memory.
        index: the last place in that commit; None if that is not known.

    Attributes:
        floor: every commit of the topic with this sequence or a higher one is in the ring.
        edge: the sequence of the newest commit that the ring has seen.
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
        self._began = StreamPosition(epoch, edge, index or 0)
        self._is_told = index is not None
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
        """Add the newest commit and drop the oldest ones beyond the bounds."""
        self._forget_joined()
        self.edge = commit.sequence
        if self._commits and commit.is_blank and self._commits[-1].is_blank:
            # Of most commits of a busy tenant many topics show nothing: the last stands for all.
            self._commits[-1] = commit
            return
        self._commits.append(commit)
        self._events += len(commit.ends)
        self._bytes += len(commit.chunk)
        self._account.take(commit.size)
        # The newest stays whatever its size: those who are up to date take it from here.
        while (
            self._events > self._max_events or self._bytes > self._max_bytes
        ) and self._start < len(self._commits) - 1:
            self._drop()
        if self._start > len(self._commits) // 2:
            del self._commits[: self._start]
            self._start = 0

    def shed(self, sequence: int) -> None:
        """Drop everything up to a sequence: who keeps up has it, others read it from the log."""
        if self.edge <= sequence:
            self._began, self._is_told = self.end, True
        while self._start < len(self._commits) and self._commits[self._start].sequence <= sequence:
            self._drop()
        del self._commits[: self._start]
        self._start = 0
        self._forget_joined()

    @property
    def end(self) -> StreamPosition:
        """The position of the newest event that the ring has seen."""
        if not self._commits:
            return self._began
        return StreamPosition(self._epoch, self.edge, max(len(self._commits[-1].ends) - 1, 0))

    def after(self, position: StreamPosition) -> tuple[int, int] | None:
        """Return where a stream goes on after an event that the ring may have seen.

        Returns:
            The commit of the next event, or the lowest that it may have, and its index; None if
            the ring cannot tell.
        """
        sequence, index = position.sequence, position.index + 1
        if position.epoch != self._epoch or not self.floor - 1 <= sequence <= self.edge:
            return None
        if (commit := self.find(sequence)) and index < len(commit.ends):
            return sequence, index
        if sequence < self.floor and not (self._is_told and position == self._began):
            return None
        return sequence + 1, 0

    def _drop(self) -> None:
        oldest = self._commits[self._start]
        self._start += 1
        self.floor = oldest.sequence + 1
        self._events -= len(oldest.ends)
        self._bytes -= len(oldest.chunk)
        self._account.take(-oldest.size)

    def find(self, sequence: int) -> EncodedCommit | None:
        """Return the commit at a sequence, if it is in the ring."""
        first = self._first(sequence)
        if first < len(self._commits) and self._commits[first].sequence == sequence:
            return self._commits[first]
        return None

    def take(self, sequence: int, max_bytes: int) -> Sequence[EncodedCommit]:
        """Return commits from ``sequence`` on, which is at or above the floor.

        There is at least one if there are any, and no more than ``max_bytes`` hold.
        """
        first = self._first(sequence)
        end, size = first, 0
        while end < len(self._commits) and (end == first or size < max_bytes):
            size += len(self._commits[end].chunk)
            end += 1
        return self._commits[first:end]

    def batch(self, sequence: int, index: int = 0) -> Batch:
        """Return the commits from ``sequence`` on, or the first of them; there is at least one.

        Of the commit at ``sequence``, if there is one, it holds the events from ``index`` on.
        """
        if index and (commits := self.take(sequence, _BATCH_BYTES)):
            skipped = index if commits[0].sequence == sequence else 0
            return Batch.of(self._epoch, commits, skipped)
        batch = self._joined.get(sequence)
        if batch is None:
            if len(self._joined) >= _JOINED:
                self._forget_joined()
            commits = self.take(sequence, _BATCH_BYTES)
            batch = self._joined[sequence] = Batch.of(self._epoch, commits)
            if len(commits) > 1:
                # Of one commit the bytes are those of the ring.
                self._joined_bytes += len(batch.wire)
                self._account.take(len(batch.wire))
        return batch

    def _forget_joined(self) -> None:
        self._joined.clear()
        self._account.take(-self._joined_bytes)
        self._joined_bytes = 0

    def _first(self, sequence: int) -> int:
        return bisect_left(
            self._commits, sequence, lo=self._start, key=lambda commit: commit.sequence
        )
