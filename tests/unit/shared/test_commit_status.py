"""The status in commit headers equals the folded status after every event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators.golden_logs import GoldenLog, golden_logs
from tailrace_shared.execution.commit_status import CommitStatus, digest_of_waits
from tailrace_shared.execution.state import ExecutionState

LOGS = list(golden_logs())


@given(
    st.sampled_from(["queued", "running", "paused", "completed"]),
    st.integers(0, 10_000),
    st.integers(0, 2**64 - 1),
)
def test_a_header_is_read_as_it_was_written(status: str, waits: int, mark: int) -> None:
    """The digest is omitted if no step waits."""
    written = CommitStatus(status, waits, mark if waits else 0)
    assert CommitStatus.parse(str(written)) == written


@pytest.mark.parametrize(
    "text", ["", "running", "running 1", "running x", "running 1 xyz", "a b c d"]
)
def test_an_unknown_header_is_ignored(text: str) -> None:
    """A newer version may use another form; readers then fold the log."""
    assert CommitStatus.parse(text) is None


@given(st.text(max_size=40))
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    """Headers are not trusted."""
    CommitStatus.parse(text)


@pytest.mark.parametrize("golden", LOGS, ids=lambda golden: golden.title)
def test_a_state_counts_its_waits(golden: GoldenLog) -> None:
    """Their number and digest match the waiting steps after every event."""
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


def test_similar_waits_have_different_digests() -> None:
    """For example, when one wave of waits replaces another."""
    waves = [[(f"n{2 * t}", f"T{t}"), (f"n{2 * t + 1}", f"T{t}")] for t in range(1000)]
    assert len({digest_of_waits(wave) for wave in waves}) == len(waves)


def test_some_golden_log_waits_for_signals() -> None:
    """Otherwise the test above would pass vacuously."""
    counts = []
    for golden in LOGS:
        state = ExecutionState()
        for commit in golden.record.commits:
            for event in commit.events():
                state.apply(event)
                counts.append(state.signal_waits)
    assert max(counts) >= 2
