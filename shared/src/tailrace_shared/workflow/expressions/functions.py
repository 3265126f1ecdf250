"""Functions that expressions may call beyond those of the CEL library.

The library calls a function of ours only for arguments that its own function of that name does not
take.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import cel.stdlib

# Excluded: `contains` would shadow CEL's own, `lists.range` creates lists of any length, and
# `first` and `last` return optional values, which JSON cannot represent.
EXTENSIONS: Final[Mapping[str, Callable[..., Any]]] = {
    name: function
    for name, function in cel.stdlib.STDLIB_FUNCTIONS.items()
    if name not in {"contains", "lists.range", "first", "last"}
}

SIZE: Final = "Size"
"""The name under which the evaluator knows :func:`size`."""

_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_MAX_OFFSET: Final = timedelta(hours=24)


def size(value: Any) -> int:
    """Count the code points of a text, the bytes of bytes, or the entries of a list or map."""
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise TypeError(f"takes a string, bytes, a list or a map, not {_kind(value)}")


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    raise TypeError(f"takes a scalar value, not {_kind(value)}")


def _timestamp(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"takes an RFC 3339 time or Unix seconds as an integer, not {_kind(value)}")
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"{value} is not between the years 1 and 9999") from None


def _int(value: Any) -> int:
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    raise TypeError(f"takes a number, a numeric string or a timestamp, not {_kind(value)}")


def _zone(name: Any) -> tzinfo:
    if not isinstance(name, str):
        raise TypeError(f"a time zone is a string, not {_kind(name)}")
    if offset := _OFFSET.fullmatch(name):
        shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if shift < _MAX_OFFSET and int(offset[3]) < 60:
            return timezone(-shift if offset[1] == "-" else shift)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(
            f"{name[:40]!r} is not a time zone; use a form like 'Europe/Vienna' or '+02:00'"
        ) from None


def _in_zone(part: Callable[[datetime], int]) -> Callable[..., int]:
    def accessor(moment: Any, zone: Any = "UTC") -> int:
        if not isinstance(moment, datetime):
            raise TypeError(f"with a time zone takes a timestamp, not {_kind(moment)}")
        return part(moment.astimezone(_zone(zone)))

    return accessor


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


OVERLOADS: Final[Mapping[str, Callable[..., Any]]] = {
    "string": _string,
    "timestamp": _timestamp,
    "int": _int,
    # Months, days of the month and days of the year count from 0, weekdays from Sunday.
    "getFullYear": _in_zone(lambda moment: moment.year),
    "getMonth": _in_zone(lambda moment: moment.month - 1),
    "getDayOfYear": _in_zone(lambda moment: moment.timetuple().tm_yday - 1),
    "getDayOfMonth": _in_zone(lambda moment: moment.day - 1),
    "getDate": _in_zone(lambda moment: moment.day),
    "getDayOfWeek": _in_zone(lambda moment: moment.isoweekday() % 7),
    "getHours": _in_zone(lambda moment: moment.hour),
    "getMinutes": _in_zone(lambda moment: moment.minute),
    "getSeconds": _in_zone(lambda moment: moment.second),
    "getMilliseconds": _in_zone(lambda moment: moment.microsecond // 1000),
}
"""Further overloads of CEL's own functions, which the library lacks."""
