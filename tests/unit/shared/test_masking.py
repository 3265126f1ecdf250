"""Masking of sensitive values in events and JSON values."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.execution.commits import encode_commits, split_commit
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Completed,
    Event,
    ExecutionCompleted,
    ExecutionQueued,
    Queued,
    StepCompleted,
    StepDone,
    StepExpanded,
    StepExpansion,
    StepLog,
    StepLogged,
    StepProgress,
    StepProgressed,
    StepWait,
    StepWaiting,
)
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.redact.masking import MASK, mask_event, mask_value

NOW = "2024-01-15T10:30:00.000Z"
SECRET = "4111-1111"

MARKED: list[Event] = [
    ExecutionQueued(
        Queued("e", "w", "W", 1, {"card": SECRET, "n": 1}, "queued", sensitive=["/card"]), NOW
    ),
    ExecutionCompleted(
        Completed("e", "completed", 5, {"a": {"card": SECRET}}, sensitive=["/a/card"]), NOW
    ),
    StepCompleted(
        StepDone("a", "t", "success", 1, NOW, NOW, 5, [SECRET, 2], sensitive=["/0"]), NOW
    ),
    StepExpanded(StepExpansion("a", "map", "running", [1, SECRET], sensitive=["/1"]), NOW),
    StepWaiting(
        StepWait("a", "workflow", "waiting", child_input={"c": SECRET}, sensitive=["/c"]), NOW
    ),
    StepProgressed(StepProgress("a", "t", 5.0, "", {"c": SECRET}, sensitive=["/c"]), NOW),
    StepLogged(StepLog("a", "t", "info", "m", {"c": SECRET}, sensitive=["/c"]), NOW),
    CommandRequested(
        Command(
            "e", "resolve", "c", data={"pin": SECRET}, event=SECRET, sensitive=["/data", "/event"]
        ),
        NOW,
    ),
]


def slice_of(event: Event) -> msgspec.Raw:
    """Return the stored form of an event."""
    (commit,) = encode_commits([event])
    (piece,) = split_commit(commit)
    return piece


@pytest.mark.parametrize("event", MARKED, ids=lambda event: type(event).__name__)
def test_marked_values_of_an_event_are_masked(event: Event):
    """Its other fields keep their values and order."""
    stored = slice_of(event)
    seen = mask_event(stored)
    assert SECRET.encode() in bytes(stored)
    assert SECRET.encode() not in bytes(seen)
    before, after = msgspec.json.decode(stored), msgspec.json.decode(seen)
    assert [*after] == [*before]
    assert [*after["data"]] == [*before["data"]]
    wanted = msgspec.json.encode(before).replace(SECRET.encode(), MASK.encode())
    assert msgspec.json.encode(after) in {wanted, wanted.replace(b'{"pin":"***"}', b'"***"')}


def test_an_event_without_marks_is_returned_unchanged():
    """Events without sensitive values cost no copy."""
    stored = slice_of(StepLogged(StepLog("a", "t", "info", "m", {"c": 1}), NOW))
    assert mask_event(stored) is stored


def test_a_user_field_named_sensitive_masks_nothing():
    """Only the event's own field marks values."""
    fields = {"sensitive": ["/c"], "c": SECRET}
    stored = slice_of(StepLogged(StepLog("a", "t", "info", "m", fields), NOW))
    assert mask_event(stored) is stored


@pytest.mark.parametrize(
    ("value", "pointers", "seen"),
    [
        ({"a": 1, "b": 2}, ["/a"], {"a": MASK, "b": 2}),
        ({"a": [1, {"b": 2}]}, ["/a/1/b"], {"a": [1, {"b": MASK}]}),
        ({"a/b": {"~": 1}}, ["/a~1b/~0"], {"a/b": {"~": MASK}}),
        ({"": 1}, ["/"], {"": MASK}),
        (5, [""], MASK),
        ({"a": None}, ["/a"], {"a": MASK}),
        ({"a": 1}, ["/b", "/a/b", "/a/0"], {"a": 1}),
        ([1, 2], ["/2", "/-", "/01", "/-1", "/\u0660", "/9" * 3, "/" + "9" * 400], [1, 2]),
        ({"a": 1}, ["/a", "/a/b", ""], MASK),
    ],
)
def test_values_at_pointers_are_masked(value, pointers, seen):
    """Pointers contain keys and indexes, escaped or not; missing values are ignored."""
    assert mask_value(value, pointers) == seen


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.data())
def test_any_part_of_any_value_can_be_masked(value, data):
    """The original stays unchanged, and so do all other parts of the copy."""
    place: list[Any] = []
    inner = value
    while isinstance(inner, list | dict) and inner and data.draw(st.booleans()):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        place.append(data.draw(st.sampled_from(keys)))
        inner = inner[place[-1]]
    before = msgspec.json.encode(value)
    seen = mask_value(value, [join_pointer("", *place)])
    assert msgspec.json.encode(value) == before
    for token in place:
        assert type(seen) is type(value)
        assert len(seen) == len(value)
        seen, value = seen[token], value[token]
    assert seen == MASK
