"""A ring holds the newest commits within its bounds, and knows from where on it is complete."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount, MemoryBudget
from tailrace_api.fanout.topics.ring import Ring


def _commit(sequence: int, *frames: bytes) -> EncodedCommit:
    shown = dict(enumerate(frames))
    return EncodedCommit.of(sequence, shown, len(frames) - 1, is_last=False)


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4), st.integers(0, 30)), max_size=80),
    st.integers(1, 20),
    st.integers(1, 200),
)
def test_a_ring_is_complete_from_its_floor_on(
    edge: int, commits: list[Any], max_events: int, max_bytes: int
) -> None:
    """For any commits, all from the floor on are there, in order and within bounds."""
    budget = MemoryBudget(2**20, 2**20)
    account = MemoryAccount(budget, "t")
    ring = Ring("e", edge, max_events=max_events, max_bytes=max_bytes, account=account)
    appended: list[EncodedCommit] = []
    sequence = edge
    for distance, events, size in commits:
        sequence += distance
        commit = _commit(sequence, *[b"x" * size] * events)
        if appended and commit.is_blank and appended[-1].is_blank:
            appended.pop()  # the last stands for all in a row of which nothing is shown
        appended.append(commit)
        ring.append(commit)
        kept = ring.take(ring.floor, 10**9)
        assert list(kept) == [commit for commit in appended if commit.sequence >= ring.floor]
        assert ring.edge == ring.newest == sequence
        assert len(kept) == 1 or (
            sum(len(commit.indexes) or 1 for commit in kept) <= max_events
            and sum(len(commit.chunk) for commit in kept) <= max_bytes
        )
        assert budget.bytes == sum(commit.size for commit in kept)


@given(st.integers(1, 12), st.integers(0, 12), st.integers(1, 40))
def test_batches_walk_through_a_ring_once(count: int, start: int, batch: int) -> None:
    """A cursor that takes bounded batches sees each commit once, in order."""
    account = MemoryAccount(MemoryBudget(2**20, 2**20), "t")
    ring = Ring("e", 0, max_events=100, max_bytes=10_000, account=account)
    for sequence in range(1, count + 1):
        ring.append(_commit(sequence, b"0123456789"))
    cursor = start + 1
    seen: list[int] = []
    while taken := ring.take(cursor, batch):
        assert len(taken) == 1 or sum(len(commit.chunk) for commit in taken) < batch + 15
        seen.extend(commit.sequence for commit in taken)
        cursor = seen[-1] + 1
    assert seen == list(range(start + 1, count + 1))
