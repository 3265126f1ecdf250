"""The delay between a failed attempt and the next one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.duration import Duration
from tailrace_shared.workflow.definition import Retry
from tailrace_worker.engine.decide.retry_policy import retry_delay

POLICIES = st.builds(
    Retry,
    max_attempts=st.integers(1, 1000),
    initial=st.sampled_from(["0s", "1ms", "500ms", "30s", "36500d"]),
    factor=st.floats(1, 100),
    max=st.sampled_from(["0s", "1s", "30s", "36500d"]),
    jitter=st.booleans(),
)


def test_without_a_policy_there_is_one_attempt():
    """A failure is final."""
    assert retry_delay(None, 1, 0.5) is None


def test_the_delays_double_up_to_the_longest():
    """The defaults are half a second, one, two, … thirty."""
    policy = Retry(max_attempts=20, jitter=False)
    delays = [retry_delay(policy, failures, 0.0) for failures in range(1, 9)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted_with_the_first(attempts):
    """Three attempts are two retries."""
    policy = Retry(max_attempts=attempts)
    retries = [f for f in range(1, 10) if retry_delay(policy, f, 0.0) is not None]
    assert len(retries) == attempts - 1


def test_jitter_draws_from_the_upper_half():
    """Steps that failed together do not retry together."""
    policy = Retry(max_attempts=5, initial="8s")
    assert [retry_delay(policy, 1, draw) for draw in (0.0, 0.5, 1.0)] == [4, 6, 8]


@given(POLICIES, st.integers(1, 1100), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_longer_than_the_policy_says(policy, failures, draw):
    """However often it failed, and however fast the delays grow."""
    delay = retry_delay(policy, failures, draw)
    if failures >= policy.max_attempts:
        assert delay is None
    else:
        assert delay is not None
        assert 0 <= delay <= Duration.parse(policy.max)


@pytest.mark.parametrize("jitter", [False, True])
def test_without_an_initial_delay_there_is_never_one(jitter):
    """Even where the factor's power is beyond all numbers."""
    policy = Retry(max_attempts=1000, initial="0s", factor=100, jitter=jitter)
    assert {retry_delay(policy, failures, 0.5) for failures in range(1, 1000)} == {0}
