"""Parse JSON that people write, without changing a value silently.

Duplicate keys, NaN, numbers that become infinite and halves of surrogate pairs are refused. Other
parsers drop the first of two keys, and replace the rest by null or by other characters.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 200
"""Levels of nesting; the API accepts half of them."""
MAX_DIGITS: Final = 4000

_MAX_POINTER: Final = 500

_SURROGATE = re.compile("[\ud800-\udfff]")
_ZERO = re.compile(r"-?[0.]+(?:[eE].*)?")


class NotJsonError(Exception):
    """The text is not strict JSON.

    Attributes:
        place: ``:line:column``; empty if the message has the place as a JSON Pointer.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


class _Refused(NamedTuple):
    """Placeholder of a refused value, until its place is known."""

    reason: str


def parse_json(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        NotJsonError: with the reason and the place.
    """
    try:
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_unique,
            parse_constant=lambda name: _Refused(f"{name} is not JSON"),
            parse_float=_decimal,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise NotJsonError(error.msg, f":{error.lineno}:{error.colno}") from None
    except RecursionError:
        raise NotJsonError(f"nested more than {MAX_DEPTH} levels deep") from None
    check_json(value)
    return value


def check_json(value: Any) -> None:
    """Refuse parts of a value that JSON cannot hold, and deep nesting.

    Raises:
        NotJsonError: with the reason and the JSON Pointer to the place.
    """
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH + 1):
        inner: list[tuple[str, Any]] = []
        for pointer, part in level:
            if reason := _reason(part):
                raise NotJsonError(f"{reason}{_at(pointer)}")
            inner += [(f"{pointer}/{_token(key)}", each) for key, each in _members(part)]
        if not inner:
            return
        level = inner
    raise NotJsonError(f"nested more than {MAX_DEPTH} levels deep{_at(level[0][0])}")


def _reason(part: Any) -> str:
    match part:
        case _Refused():
            return part.reason
        case str() if _SURROGATE.search(part):
            return "half of a surrogate pair"
        case float() if not math.isfinite(part):
            return f"{part} is not JSON"
        case dict() if any(isinstance(key, str) and _SURROGATE.search(key) for key in part):
            return "half of a surrogate pair in a key"
    return ""


def _members(part: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(part, dict):
        return part.items()
    # A named tuple is a tuple, too.
    return enumerate(part) if isinstance(part, (list, tuple)) else ()


def _token(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _at(pointer: str) -> str:
    return f" at {pointer[:_MAX_POINTER]}" if pointer else ""


def _unique(pairs: list[tuple[str, Any]]) -> Any:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            return _Refused(f"duplicate key {key[:80]!r} in the object")
        mapping[key] = value
    return mapping


def _decimal(text: str) -> Any:
    number = float(text)
    if math.isinf(number):
        return _Refused(f"the number {text[:40]} is too large")
    if not number and not _ZERO.fullmatch(text):
        return _Refused(f"the number {text[:40]} is too small")
    return number


def _integer(text: str) -> Any:
    if len(text) > MAX_DIGITS:
        return _Refused(f"a number of {len(text)} digits; the limit is {MAX_DIGITS}")
    return int(text)
