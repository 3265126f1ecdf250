"""The wire format of events and commits."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace_shared.execution.commits import (
    MAX_COMMIT_BYTES,
    decode_commit,
    decode_slice,
    encode_commits,
    split_commit,
)
from tailrace_shared.execution.events import (
    Event,
    StepBegun,
    StepCompleted,
    StepDone,
    StepLog,
    StepLogged,
    StepStarted,
)
from tailrace_shared.execution.timestamps import format_timestamp, parse_timestamp

NOW = "2024-01-15T10:30:00.000Z"


def line(text):
    """Return an event of about the size of ``text``."""
    return StepLogged(StepLog("n", "log", "info", text), NOW)


def test_an_event_is_type_data_and_timestamp():
    """Browsers receive the stored bytes, so their form is a contract."""
    (commit,) = encode_commits([StepStarted(StepBegun("a", "http", "running", 1, NOW), NOW)])
    assert msgspec.json.decode(commit) == [
        {
            "type": "step:started",
            "data": {
                "node_id": "a",
                "node_type": "http",
                "status": "running",
                "attempt": 1,
                "started_at": NOW,
            },
            "timestamp": NOW,
        }
    ]


def test_a_null_output_is_written():
    """A reader of step:completed may rely on the field."""
    event = StepCompleted(StepDone("a", "http", "success", 1, NOW, NOW, 5, None), NOW)
    (commit,) = encode_commits([event])
    assert msgspec.json.decode(commit)[0]["data"]["output"] is None


def test_few_events_are_one_commit():
    """One commit is appended atomically."""
    events: list[Event] = [line("a"), line("b")]
    (commit,) = encode_commits(events)
    assert decode_commit(commit) == events
    assert [decode_slice(piece).type for piece in split_commit(commit)] == ["step:log"] * 2


@settings(max_examples=30)
@given(st.lists(st.integers(0, 200_000) | st.just(260_000), min_size=1, max_size=20))
def test_commits_stay_under_their_limit_and_keep_the_order(sizes):
    """Events beyond the limit go into the next commit."""
    events: list[Event] = [line(f"{index}" + "x" * size) for index, size in enumerate(sizes)]
    commits = list(encode_commits(events))
    assert all(len(commit) <= MAX_COMMIT_BYTES for commit in commits)
    assert [event for commit in commits for event in decode_commit(commit)] == events
    # No commit is left shorter than it must be.
    for first, second in pairwise(commits):
        assert len(first) + len(split_commit(second)[0]) + 1 > MAX_COMMIT_BYTES


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_commit_may_be_exactly_as_large_as_its_limit(spare):
    """One more byte makes two commits."""
    empty = len(next(encode_commits([line(""), line("")])))
    half = (MAX_COMMIT_BYTES - empty) // 2
    events = [line("x" * half), line("x" * (MAX_COMMIT_BYTES - empty - half - 1 + spare))]
    commits = list(encode_commits(events))
    assert len(commits) == (2 if spare == 2 else 1)


def test_an_event_of_the_largest_values_fits_a_commit():
    """An output of 256 KiB leaves room for the rest of the event."""
    event = StepCompleted(
        StepDone("n" * 64, "t" * 64, "success", 1, NOW, NOW, 5, "x" * (256 * 1024 - 2)), NOW
    )
    (commit,) = encode_commits([event])
    assert len(commit) < MAX_COMMIT_BYTES


@given(st.floats(0, 4e9))
def test_timestamps_keep_the_millisecond(seconds):
    """Timestamps are UTC and truncated, so they are at most a microsecond in the future."""
    text = format_timestamp(seconds)
    assert text.endswith("Z")
    assert len(text) == len(NOW)
    assert -0.000_001 <= seconds - parse_timestamp(text) < 0.001_001


def test_timestamps_have_three_fraction_digits():
    """RFC 3339 with milliseconds."""
    assert format_timestamp(1705314600) == "2024-01-15T10:30:00.000Z"
    assert parse_timestamp("2024-01-15T11:30:00.000+01:00") == 1705314600


@pytest.mark.parametrize("payload", [b"", b"{}", b"[{}]", b'[{"type":"step:new","data":{}}]'])
def test_an_invalid_commit_is_refused(payload):
    """A foreign log must not fold to a state."""
    with pytest.raises(msgspec.DecodeError):
        decode_commit(payload)
