"""Masking: what of an event, and of a value, people are shown."""

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
    """Return an event as it is stored."""
    (commit,) = encode_commits([event])
    (piece,) = split_commit(commit)
    return piece


@pytest.mark.parametrize("event", MARKED, ids=lambda event: type(event).__name__)
def test_a_marked_event_is_shown_without_what_is_marked(event: Event):
    """Its other fields are shown as they are, and in their order."""
    stored = slice_of(event)
    seen = mask_event(stored)
    assert SECRET.encode() in bytes(stored)
    assert SECRET.encode() not in bytes(seen)
    before, after = msgspec.json.decode(stored), msgspec.json.decode(seen)
    assert [*after] == [*before]
    assert [*after["data"]] == [*before["data"]]
    wanted = msgspec.json.encode(before).replace(SECRET.encode(), MASK.encode())
    assert msgspec.json.encode(after) in {wanted, wanted.replace(b'{"pin":"***"}', b'"***"')}


def test_an_event_without_marks_is_the_very_same_object():
    """Nobody pays for what is not used."""
    stored = slice_of(StepLogged(StepLog("a", "t", "info", "m", {"c": 1}), NOW))
    assert mask_event(stored) is stored


def test_a_field_of_a_users_that_has_the_name_of_the_mark_marks_nothing():
    """Only the event itself says what is sensitive in it."""
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
def test_places_are_replaced_where_they_are(value, pointers, seen):
    """By keys and by indexes, escaped or not; what is not there is left out."""
    assert mask_value(value, pointers) == seen


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.data())
def test_any_place_of_any_value_can_be_masked(value, data):
    """The value that was given stays as it was, and all other places are shown."""
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
