"""No value changes silently when it is encoded as JSON."""

import dataclasses
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.json_encoding import MAX_DEPTH, NotJsonError, encode_finite, encode_json

NAN, INFINITY = float("nan"), float("inf")


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: Any


class Place(msgspec.Struct, frozen=True):
    """A Struct."""

    x: Any


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.floats()
    | st.integers()
    | st.integers(2**63 - 2, 2**64 + 2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | inner.map(Point)
        | inner.map(Place)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_back_equal_or_is_refused(value):
    """Dataclasses and Structs come back as objects."""
    try:
        encoded = encode_json(value)
    except NotJsonError:
        return
    assert msgspec.json.decode(encoded) == msgspec.to_builtins(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (NAN, "nan is not a JSON number"),
        ({"a": [None, NAN]}, "nan at /a/1 is not a JSON number"),
        ({"a/b": -INFINITY}, "-inf at /a~1b is not a JSON number"),
        (Point([INFINITY]), "inf at /x/0 is not a JSON number"),
        ([Place(NAN)], "nan at /0/x is not a JSON number"),
        ({"s": {INFINITY}}, "inf at /s/0 is not a JSON number"),
        ({"s": frozenset({Place(NAN)})}, "nan at /s/0/x is not a JSON number"),
        ({1: (NAN,)}, "nan at /1/0 is not a JSON number"),
        ({"n": 2**64}, "the integer at /n does not fit in 64 bits"),
        (Point(-(2**63) - 1), "the integer at /x does not fit in 64 bits"),
    ],
)
def test_a_number_that_json_cannot_hold_is_refused_with_its_place(value, message):
    """Msgspec would write null, or digits that most readers round."""
    with pytest.raises(NotJsonError) as caught:
        encode_json(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), "1" * 30, "null", [None, 1.5]])
def test_what_fits_is_encoded(value):
    """Texts may look like numbers."""
    assert msgspec.json.decode(encode_json(value)) == value


def test_a_message_may_carry_integers_of_any_size():
    """A Dramatiq actor receives them unchanged."""
    assert msgspec.json.decode(encode_finite([2**70])) == [2**70]
    with pytest.raises(NotJsonError):
        encode_finite([2**70, NAN])


def test_json_that_is_encoded_already_is_checked_too():
    """It is copied into the result."""
    assert encode_json({"a": msgspec.Raw(b"[null]")}) == b'{"a":[null]}'


@pytest.mark.parametrize("value", [object(), 10**5000, "\ud800", {(1, 2): 3}], ids=type)
def test_other_values_are_refused(value):
    """All that msgspec raises becomes one class of error."""
    with pytest.raises(NotJsonError):
        encode_json(value)


def test_a_value_that_contains_itself_is_refused():
    """It has no end."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotJsonError):
        encode_json(value)


def test_a_large_text_is_searched_in_pieces():
    """Each search holds the interpreter's lock until it ends."""
    encoded = bytearray()
    searched = []

    def observe(_frame, event, argument):
        if event == "c_call" and argument.__name__ == "translate":
            searched.append(len(argument.__self__))

    sys.setprofile(observe)
    try:
        encoded += encode_json("1x" * (1024 * 1024))
    finally:
        sys.setprofile(None)
    assert sum(searched) >= len(encoded)
    assert max(searched) <= 65 * 1024


@pytest.mark.parametrize("before", [65_500, 65_520, 65_530, 65_535, 65_536, 131_060])
def test_a_long_number_is_found_wherever_it_is(before):
    """Also across the pieces in which a large text is searched."""
    large = {"a": "x" * before, "b": 2**64, "c": "x" * 200_000}
    with pytest.raises(NotJsonError, match="the integer at /b does not fit"):
        encode_json(large)


@pytest.mark.parametrize("inner", [1, [], {}, [1], (), ((),)])
@pytest.mark.parametrize("levels", range(MAX_DEPTH - 3, MAX_DEPTH + 3))
def test_the_depth_of_plain_values_is_found_without_decoding_them(levels, inner):
    """It is the same as that of a value with a Struct, which is decoded."""
    deep: Any = inner
    for _ in range(levels):
        deep = {"a": [deep]} if levels % 2 else [deep]
    assert _outcome([deep, {"x": 1}]) == _outcome([deep, Place(1)])


def _outcome(value):
    try:
        return encode_json(value)
    except NotJsonError as error:
        return str(error)
