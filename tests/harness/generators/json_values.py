"""JSON values and what resembles them: numbers of any size, any code point, deep nesting."""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Self

from hypothesis import strategies as st

from tailrace_shared.json_pointer import join_pointer

MAX_DEPTH: Final = 100
"""Levels of nesting that Tailrace accepts."""

_HALF: Final = re.compile("[\ud800-\udfff]")


class Repeated(dict[str, Any]):
    """An object whose first key is written twice."""


class Written(float):
    """A number as it is written, of which a float is only a part."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


_INTEGERS = st.one_of(
    st.integers(-1000, 1000),
    st.integers(2**53 - 2, 2**53 + 2),
    st.integers(-(2**63) - 2, -(2**63) + 2),
    st.integers(2**63 - 2, 2**64 + 2),
    st.integers(-(10**30), 10**30),
    st.just(10**400),
)
_FLOATS = st.floats() | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e22])
_CHARACTERS = st.characters() | st.sampled_from('\0\x7f\x85\u2028\ufeff\ufffe\ud800\udfff"\\~/')
_TEXTS = st.text(_CHARACTERS, max_size=8) | st.sampled_from(["", "😀", "$", "null", "1e400"])
_KEYS = _TEXTS | st.sampled_from(["", "a/b", "m~n", "__proto__", "a", "b", "k" * 900])
_LEAVES = st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXTS


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=4) | st.dictionaries(_KEYS, children, max_size=4)


def _wrapped(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = {"d": value} if level % 2 else [value]
    return value


_FLAT = st.recursive(_LEAVES, _nested, max_leaves=10)
VALUES: Final = _FLAT | st.builds(_wrapped, _FLAT, st.sampled_from([3, 90, 110, 400]))
"""Values of Python that an encoder of JSON may be given."""

_NUMBERS = st.sampled_from(["1e400", "-1E+400", "1e-400", "1E2", "-0", "0e9", "1.50", "12e-1"])
_TEXT_LEAVES = _LEAVES | _NUMBERS.map(Written)
_REPEATED = st.dictionaries(_KEYS, _LEAVES, min_size=1, max_size=3).map(Repeated)
_WRITABLE = st.recursive(_TEXT_LEAVES | _REPEATED, _nested, max_leaves=10)
WRITABLE: Final = _WRITABLE | st.builds(_wrapped, _WRITABLE, st.sampled_from([3, 90, 110, 400]))
"""Values that JSON text may have; some of them only in text."""


def write(value: Any, scalar: Callable[[Any], str] = json.dumps) -> str:
    """Write a value as it may stand in a file, valid or not.

    Args:
        scalar: writes a number, a string, a truth value or nothing.
    """
    parts: list[str] = []
    # Not recursive: values are nested deeper than Python's stack.
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        match part:
            case _Raw():
                parts.append(part.text)
            case dict():
                members = list(part.items())
                if isinstance(part, Repeated):
                    members.append(members[0])
                pending += reversed([_Raw("{"), *_joined(members), _Raw("}")])
            case list():
                pending += reversed([_Raw("["), *_items(part), _Raw("]")])
            case Written():
                parts.append(part.text)
            case _:
                parts.append(scalar(part))
    return "".join(parts)


class _Raw(NamedTuple):
    text: str


def _joined(members: list[tuple[str, Any]]) -> Iterator[Any]:
    for index, (key, each) in enumerate(members):
        yield _Raw(f"{', ' if index else ''}{json.dumps(key)}: ")
        yield each


def _items(items: list[Any]) -> Iterator[Any]:
    for index, each in enumerate(items):
        if index:
            yield _Raw(", ")
        yield each


def wrong_places(
    value: Any,
    *,
    levels: int = MAX_DEPTH,
    wide_integers: bool = False,
    path_characters: int | None = None,
) -> list[str]:
    """Return JSON Pointers to all parts that Tailrace must refuse.

    Args:
        levels: how deep the value may be nested.
        wide_integers: whether integers beyond 64 bits are accepted.
        path_characters: how long the keys on the path to a value may be together.
    """
    found: list[str] = []
    pending: list[tuple[str, Any, int, int]] = [("", value, 0, 0)]
    while pending:
        pointer, part, depth, length = pending.pop()
        if isinstance(part, dict | list) and depth >= levels:
            found.append(pointer)
            continue
        if _is_wrong(part, wide_integers=wide_integers):
            found.append(pointer)
        keys = list(part) if isinstance(part, dict) else []
        longest = length + max(map(len, keys), default=0)
        if path_characters is not None and longest > path_characters:
            found.append(pointer)
        members = enumerate(part) if isinstance(part, list) else [(key, part[key]) for key in keys]
        for key, each in members:
            below = length + len(key) if isinstance(key, str) else length
            pending.append((join_pointer(pointer, key), each, depth + 1, below))
    return [pointer.encode(errors="backslashreplace").decode() for pointer in found]


def _is_wrong(part: Any, *, wide_integers: bool) -> bool:
    if isinstance(part, dict):
        return isinstance(part, Repeated) or any(map(_HALF.search, part))
    if isinstance(part, str):
        return bool(_HALF.search(part))
    if isinstance(part, float):
        return not math.isfinite(part) or (isinstance(part, Written) and part.text == "1e-400")
    is_integer = isinstance(part, int) and not isinstance(part, bool)
    return is_integer and not wide_integers and not -(2**63) <= part < 2**64


def is_equal(one: Any, other: Any) -> bool:
    """Compare as JSON: true is not 1, and the sign of zero counts."""
    pending = [(one, other)]
    while pending:
        left, right = pending.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            pending += [(left[key], right[key]) for key in left]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pending += zip(left, right, strict=True)
        elif isinstance(left, bool) is not isinstance(right, bool) or left != right:
            return False
        elif isinstance(left, float) and math.copysign(1, left) != math.copysign(1, right):
            return isinstance(left, Written) and left.text == "-0"
    return True
