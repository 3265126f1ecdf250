"""What headers say of an execution is what its log folds to, at every event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators.golden_logs import GoldenLog, golden_logs
from tailrace_shared.execution.commit_status import STATE, CommitStatus, digest_of_waits
from tailrace_shared.execution.state import ExecutionState

LOGS = list(golden_logs())


@given(
    st.sampled_from(["queued", "running", "paused", "completed"]),
    st.integers(0, 10_000),
    st.integers(0, 2**64 - 1),
)
def test_a_header_is_read_as_it_was_written(status: str, waits: int, mark: int) -> None:
    """Of what does not wait nobody needs to know which steps."""
    written = CommitStatus(status, waits, mark if waits else 0)
    assert CommitStatus.from_headers({STATE: str(written)}) == written


@pytest.mark.parametrize(
    "text", ["", "running", "running 1", "running x", "running 1 xyz", "a b c d"]
)
def test_what_is_not_understood_says_nothing(text: str) -> None:
    """A later version may say more, and then it is to be found out otherwise."""
    assert CommitStatus.parse(text) is None


@given(st.text(max_size=40))
def test_a_header_may_hold_anything(text: str) -> None:
    """Without harm."""
    CommitStatus.parse(text)


@pytest.mark.parametrize("golden", LOGS, ids=lambda golden: golden.title)
def test_the_waits_of_a_state_are_counted_as_they_come_and_go(golden: GoldenLog) -> None:
    """Their number and their mark are those of the steps that wait."""
    state = ExecutionState()
    for commit in golden.record.commits:
        for event in commit.events():
            state.apply(event)
            waiting = [step for step in state.steps.values() if step.waits_for_signal]
            assert state.commit_status == CommitStatus(
                state.status,
                len(waiting),
                digest_of_waits((step.node_id, step.waiting_since) for step in waiting),
            )
            assert set(state.waiting(3)) <= {step.node_id for step in waiting}
            assert len(state.waiting(3)) == min(3, len(waiting))


def test_waits_that_are_alike_have_another_mark() -> None:
    """As they have where one wave of them has given way to the next."""
    waves = [[(f"n{2 * t}", f"T{t}"), (f"n{2 * t + 1}", f"T{t}")] for t in range(1000)]
    assert len({digest_of_waits(wave) for wave in waves}) == len(waves)


def test_some_golden_log_waits_for_signals() -> None:
    """Or the test above would show nothing."""
    counts = []
    for golden in LOGS:
        state = ExecutionState()
        for commit in golden.record.commits:
            for event in commit.events():
                state.apply(event)
                counts.append(state.signal_waits)
    assert max(counts) >= 2
