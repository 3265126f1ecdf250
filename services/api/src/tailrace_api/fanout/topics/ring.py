"""A ring buffer of the newest commits of a topic, encoded and without a gap.

It is bounded in events and bytes, and shared by all connections of the topic. Most connections are
at the same position, so the batch from a position is joined once and cached. When the memory budget
is used up, the ring holds only what has not been sent.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.position import StreamPosition

BATCH_BYTES: Final = 64 * 1024
"""The size of one write, and so what a stalled connection holds."""

# Cursors for which a batch is cached: most connections wait for the newest commits, a few are at
# some place behind.
_MAX_JOINED: Final = 12


class Tail(Protocol):
    """The tenant's commits as far as this process has seen them."""

    @property
    def edge(self) -> int:
        """The sequence up to which all commits of the tenant have been taken."""

    def end(self, epoch: str, dialect: Dialect) -> StreamPosition:
        """Return the position of the newest event up to the edge."""


class Ring:
    """The commits of one topic from a floor on.

    Args:
        edge: the sequence of the newest commit before the ring's first.
        index: the index of the last slot in that commit; None if unknown.

    Attributes:
        floor: the ring holds every commit of the topic from this sequence on.
        newest: the sequence of the newest commit that was appended.
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
        self.newest = edge
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
        self.newest = commit.sequence
        if self._commits and commit.is_blank and self._commits[-1].is_blank:
            # Many topics show nothing of most commits of a busy tenant; the last represents all.
            self._commits[-1] = commit
            return
        self._commits.append(commit)
        self._events += _weight(commit)
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
        if self.newest <= sequence:
            self._start_position, self._is_start_exact = self.end, True
        while self._start < len(self._commits) and self._commits[self._start].sequence <= sequence:
            self._evict_oldest()
        del self._commits[: self._start]
        self._start = 0
        self._clear_joined()

    @property
    def edge(self) -> int:
        """The sequence up to which the ring has everything that the topic shows."""
        return self.newest

    @property
    def end(self) -> StreamPosition:
        """The position of the newest event up to the edge."""
        if not self._commits:
            return self._start_position
        return StreamPosition(self._epoch, self.newest, max(self._commits[-1].last_index, 0))

    def after(self, position: StreamPosition) -> tuple[int, int] | None:
        """Return the cursor after an event.

        Returns:
            The lowest sequence that the next event's commit can have, and the event's index; None
            if the ring does not know whether the event exists.
        """
        sequence, index = position.sequence, position.index + 1
        if position.epoch != self._epoch or not self.floor - 1 <= sequence <= self.edge:
            return None
        if (commit := self.find(sequence)) and index <= commit.last_index:
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
        self._events -= _weight(oldest)
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
        if index and (commits := self.take(sequence, BATCH_BYTES)):
            skipped = index if commits[0].sequence == sequence else 0
            return Batch.of(self._epoch, commits, skipped)
        batch = self._joined.get(sequence)
        if batch is None:
            if len(self._joined) >= _MAX_JOINED:
                self._clear_joined()
            # Connections whose cursors have no commit between them share the same batch.
            first = self._commits[self._first(sequence)].sequence
            batch = self._joined[sequence] = self._joined.get(first) or self._join(first)
        return batch

    def _join(self, first: int) -> Batch:
        commits = self.take(first, BATCH_BYTES)
        batch = self._joined[first] = Batch.of(self._epoch, commits)
        if len(commits) > 1:
            # A batch of one commit shares its bytes with the ring.
            self._joined_bytes += len(batch.wire)
            self._account.add(len(batch.wire))
        return batch

    def prepend(self, commits: Sequence[EncodedCommit], floor: int) -> None:
        """Insert commits before the ring's first, so that the ring is complete from ``floor`` on.

        As many of the oldest as exceed the bounds are left out.
        """
        if floor >= self.floor:
            return
        self._clear_joined()
        inserted: list[EncodedCommit] = []
        for commit in reversed(commits):
            self._events += _weight(commit)
            self._bytes += len(commit.chunk)
            self._account.add(commit.size)
            if self._events > self._max_events or self._bytes > self._max_bytes:
                self._events -= _weight(commit)
                self._bytes -= len(commit.chunk)
                self._account.add(-commit.size)
                floor = commit.sequence + 1
                break
            inserted.append(commit)
        self._commits[: self._start] = reversed(inserted)
        self._start = 0
        if inserted:
            self.newest = max(self.newest, inserted[0].sequence)
        self.floor = floor
        self._is_start_exact = False

    def _clear_joined(self) -> None:
        self._joined.clear()
        self._account.add(-self._joined_bytes)
        self._joined_bytes = 0

    def _first(self, sequence: int) -> int:
        return bisect_left(
            self._commits, sequence, lo=self._start, key=lambda commit: commit.sequence
        )


class TenantRing(Ring):
    """The ring of a topic that shows some of a tenant's commits; it holds only these.

    Args:
        tail: knows up to where the tenant's commits have been seen.
        dialect: the dialect of the topic.
    """

    def __init__(
        self,
        epoch: str,
        tail: "Tail",
        dialect: Dialect,
        *,
        max_events: int,
        max_bytes: int,
        account: MemoryAccount,
    ) -> None:
        self._tail = tail
        self._dialect = dialect
        super().__init__(
            epoch, tail.edge, max_events=max_events, max_bytes=max_bytes, account=account
        )
        self._start_position, self._is_start_exact = self.end, True
        # The commit at the edge is not in the ring.
        self.newest = 0

    @property
    def edge(self) -> int:
        """The sequence up to which the ring has everything that the topic shows."""
        return self._tail.edge

    @property
    def end(self) -> StreamPosition:
        """The position of the newest event up to the edge."""
        return self._tail.end(self._epoch, self._dialect)


def _weight(commit: EncodedCommit) -> int:
    return len(commit.indexes) or 1
