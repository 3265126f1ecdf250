"""Parse JSON that people write, without changing a value silently.

Duplicate keys, NaN, numbers that become infinite and halves of surrogate pairs are refused. Other
parsers drop the first of two keys, and replace the rest by null or by other characters.
"""

import json
import math
import re
from typing import Any, Final

MAX_DEPTH: Final = 200
"""Levels of nesting; the API accepts half of them."""
MAX_DIGITS: Final = 4000

_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJsonError(Exception):
    """The text is not strict JSON.

    Attributes:
        place: ``:line:column``; empty if it is unknown.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


def parse_json(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        NotJsonError: with the reason, and the place if it is known.
    """
    try:
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise NotJsonError(error.msg, f":{error.lineno}:{error.colno}") from None
    except RecursionError:
        raise NotJsonError(f"nested more than {MAX_DEPTH} levels deep") from None
    _check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise NotJsonError(f"duplicate key {key!r} in one object")
        mapping[key] = value
    return mapping


def _refuse_constant(name: str) -> Any:
    raise NotJsonError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotJsonError(f"the number {text[:40]} is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise NotJsonError(f"a number of {len(text)} digits; the limit is {MAX_DIGITS}")
    return int(text)


def _check(value: Any) -> None:
    """Refuse deep nesting and halves of surrogate pairs."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise NotJsonError(f"nested more than {MAX_DEPTH} levels deep")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and _SURROGATE.search(each):
                raise NotJsonError(f"half of a surrogate pair in {each[:40]!r}")
        level = inner
