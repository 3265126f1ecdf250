"""The rings of several topics of one tenant, read as one ring.

All rings are complete up to the same edge, that of the tenant's tail. Their blocks up to the edge
are merged in the order of the log. Mostly only one ring has new blocks; they are passed on without
a copy, shared with all other streams of that topic.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.topics.ring import BATCH_BYTES, TenantRing
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.position import StreamPosition

# Larger batches are not kept: they are not counted as the memory of any topic.
_MAX_JOINED_BYTES: Final = 16 * 1024

_NOTHING: Final = Batch(b"", 0, 0, None, None, is_last=False)


class MergedRing:
    """The rings of some topics; at least one."""

    def __init__(self, epoch: str, rings: Sequence[TenantRing]) -> None:
        self._epoch = epoch
        self._rings = rings
        # The batch for connections at one position, valid until another commit comes.
        self._joined: tuple[int, int, Batch] | None = None

    @property
    def floor(self) -> int:
        """All rings hold every commit from this sequence on."""
        # A list is faster than a generator, and this runs for each delivery.
        return max([ring.floor for ring in self._rings])

    @property
    def newest(self) -> int:
        """The sequence of the newest commit in any ring."""
        return max([ring.newest for ring in self._rings])

    @property
    def edge(self) -> int:
        """The sequence up to which the rings have everything that their topics show."""
        return self._rings[0].edge

    @property
    def end(self) -> StreamPosition:
        """The position of the newest event up to the edge."""
        return self._rings[0].end

    def after(self, position: StreamPosition) -> tuple[int, int] | None:
        """Return the cursor after an event, as `Ring.after` does."""
        sequence, index = position.sequence, position.index + 1
        if position.epoch != self._epoch or not self.floor <= sequence <= self.edge:
            return None
        last = max((each.last_index for each in self._at(sequence)), default=-1)
        return (sequence, index) if index <= last else (sequence + 1, 0)

    def find(self, sequence: int) -> EncodedCommit | None:
        """Return the commit at a sequence as one of the topics shows it, if any does."""
        return next(iter(self._at(sequence)), None)

    def _at(self, sequence: int) -> list[EncodedCommit]:
        return [commit for ring in self._rings if (commit := ring.find(sequence))]

    def batch(self, sequence: int, index: int = 0) -> Batch:
        """Return a batch of commits from ``sequence`` on; at least one ring must hold one."""
        behind = [ring for ring in self._rings if ring.newest >= sequence]
        if len(behind) == 1:
            return behind[0].batch(sequence, index)
        newest = self.newest
        if index or self._joined is None or self._joined[:2] != (sequence, newest):
            batch = self._merge(behind, sequence, index)
            if index or len(batch.wire) > _MAX_JOINED_BYTES:
                return batch
            self._joined = (sequence, newest, batch)
        return self._joined[2]

    def _merge(self, rings: Sequence[TenantRing], sequence: int, index: int) -> Batch:
        taken = [ring.take(sequence, BATCH_BYTES) for ring in rings]
        # A ring that gave only a part may have commits before those that others gave.
        last = min(
            [
                commits[-1].sequence
                for ring, commits in zip(rings, taken, strict=True)
                if commits and commits[-1].sequence < ring.newest
            ],
            default=self.newest,
        )
        found: dict[int, list[EncodedCommit]] = {}
        for commits in taken:
            for commit in commits:
                if commit.sequence <= last:
                    found.setdefault(commit.sequence, []).append(commit)
        merged = [_joined(found[each]) for each in sorted(found)]
        if not merged:
            return replace(_NOTHING, next_sequence=last + 1)
        return Batch.of(self._epoch, merged, index if merged[0].sequence == sequence else 0)


def _joined(commits: Sequence[EncodedCommit]) -> EncodedCommit:
    """Return one commit that shows what several topics show of it."""
    if len(commits) == 1:
        return commits[0]
    frames = sorted(each for commit in commits for each in commit.by_index())
    last_index = max(commit.last_index for commit in commits)
    return EncodedCommit.of(commits[0].sequence, dict(frames), last_index, is_last=False)
