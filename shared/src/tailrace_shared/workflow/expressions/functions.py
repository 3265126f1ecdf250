"""Functions that expressions may call beyond those of the CEL library.

The library calls a function of ours only for arguments that its own function of that name does not
take.
"""

import base64
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import cel
import cel.stdlib
import msgspec

from tailrace_shared.json_encoding import MIN_INTEGER
from tailrace_shared.workflow.equality import equality_key
from tailrace_shared.workflow.expressions.budget import CHARACTER_STEPS, ELEMENT_STEPS, current
from tailrace_shared.workflow.patterns import compile_pattern

# The library logs every error of a function of ours, although it raises it, too.
logging.getLogger("cel").setLevel(logging.CRITICAL)

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_MAX_OFFSET: Final = timedelta(hours=24)


def size(value: Any) -> int:
    """Count the code points of a text, the bytes of bytes, or the entries of a list or map."""
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise TypeError(f"takes a string, bytes, a list or a map, not {_kind(value)}")


_format_number: Final = cel.compile("string(number)")


def _seconds(value: timedelta) -> str:
    whole, parts = divmod(abs(value), timedelta(seconds=1))
    fraction = f".{parts.microseconds:06}".rstrip("0") if parts else ""
    return f"{'-' if value < timedelta() else ''}{whole}{fraction}s"


_TEXTS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: str,
    bool: lambda value: "true" if value else "false",
    int: str,
    float: lambda value: str(_format_number.execute({"number": value})),
    bytes: bytes.decode,
    datetime: lambda value: str(msgspec.to_builtins(value.astimezone(UTC))),
    timedelta: _seconds,
}


def _matches(text: Any, pattern: Any) -> bool:
    """Tell whether a pattern matches somewhere in a text."""
    if not isinstance(text, str) or not isinstance(pattern, str):
        raise TypeError(f"takes a string and a pattern, not {_kind(text)} and {_kind(pattern)}")
    return compile_pattern(pattern).matches(text)


def _string(value: Any) -> str:
    if (convert := _TEXTS.get(type(value))) is None:
        raise TypeError(f"takes a scalar value, not {_kind(value)}")
    return convert(value)


def _timestamp(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"takes an RFC 3339 time or Unix seconds as an integer, not {_kind(value)}")
    try:
        return _FIRST + timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"{value} is not between the years 1 and 9999") from None


def _int(value: Any) -> int:
    if isinstance(value, datetime):
        return (value - _FIRST) // timedelta(seconds=1)
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


REPLACED: Final[Mapping[str, tuple[str, Callable[..., Any]]]] = {
    "size": ("Size", size),
    "string": ("String", _string),
    "matches": ("Matches", _matches),
}
"""CEL's own functions that the library gets wrong, with their names in the evaluator.

Its ``matches`` compiles the pattern at each call.

A function of ours cannot replace the library's of the same name.
"""

OVERLOADS: Final[Mapping[str, Callable[..., Any]]] = {
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


def _without_booleans(function: Callable[..., Any]) -> Callable[..., Any]:
    # Python takes true for 1.
    def checked(*values: Any) -> Any:
        if any(isinstance(value, bool) for value in values):
            raise TypeError("does not take booleans")
        return function(*values)

    return checked


def _absolute(value: Any) -> Any:
    if value == MIN_INTEGER:
        raise OverflowError("the result does not fit in 64 bits")
    return abs(value)


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _distinct(items: list[Any]) -> list[Any]:
    first: dict[Any, Any] = {}
    for item in items:
        first.setdefault(equality_key(item), item)
    return list(first.values())


def _keys(items: list[Any]) -> frozenset[Any]:
    return frozenset(map(equality_key, items))


_INTEGERS: Final = frozenset(
    ["charAt", "indexOf", "lastIndexOf", "substring", "replace", "split", "slice"]
)
_COMPARING: Final = frozenset({"math.greatest", "math.least"})
# `contains` would shadow CEL's own, `lists.range` creates lists of any length, and `first` and
# `last` return optional values, which JSON cannot represent.
_EXCLUDED: Final = frozenset({"contains", "lists.range", "first", "last"})

_OURS: Final[Mapping[str, Callable[..., Any]]] = {
    "base64.decode": _decode_base64,
    "distinct": _distinct,
    "math.abs": _absolute,
    "sets.contains": lambda items, sought: _keys(items) >= _keys(sought),
    "sets.equivalent": lambda items, others: _keys(items) == _keys(others),
    "sets.intersects": lambda items, others: bool(_keys(items) & _keys(others)),
}


def _takes_numbers(name: str) -> bool:
    return name in _INTEGERS or (name.startswith("math.") and name not in _COMPARING)


EXTENSIONS: Final[Mapping[str, Callable[..., Any]]] = {
    name: _without_booleans(function) if _takes_numbers(name) else function
    for name, function in {**cel.stdlib.STDLIB_FUNCTIONS, **_OURS}.items()
    if name not in _EXCLUDED
}
"""Functions that CEL's specification defines as extensions, and a few more."""


# What a function costs beyond the copies of its arguments and its result.


def _replaced(text: Any, old: Any, new: Any, *_rest: Any) -> float:
    if not all(isinstance(each, str) for each in (text, old, new)):
        return 0
    return float((text.count(old) + 1) * len(new) * CHARACTER_STEPS * _COPIES)


def _joined(items: Any, separator: Any = "", *_rest: Any) -> float:
    if not isinstance(items, list) or not isinstance(separator, str):
        return 0
    return len(items) * len(separator) * CHARACTER_STEPS * _COPIES


def _split(text: Any, separator: Any = "", *_rest: Any) -> float:
    if not isinstance(text, str) or not isinstance(separator, str):
        return 0
    return (text.count(separator) + 1) * ELEMENT_STEPS * _COPIES


def _characters(text: Any, *_rest: Any) -> float:
    return len(text) * _EACH_CHARACTER_STEPS if isinstance(text, str) else 0


def _matched(text: Any, pattern: Any, *_rest: Any) -> float:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return 0
    return compile_pattern(pattern).cost(text)


_FURTHER_STEPS: Final[Mapping[str, Callable[..., float]]] = {
    **dict.fromkeys(("lowerAscii", "upperAscii", "strings.quote", "reverse"), _characters),
    REPLACED["matches"][0]: _matched,
    "replace": _replaced,
    "join": _joined,
    "split": _split,
}
_CALL_STEPS: Final = 3.0
_EACH_CHARACTER_STEPS: Final = 0.1
# The library copies arguments and results; a function reads and builds them.
_COPIES: Final = 4


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    further = _FURTHER_STEPS.get(name)

    def call(*arguments: Any) -> Any:
        budget = current.get()
        steps = _CALL_STEPS if further is None else _CALL_STEPS + further(*arguments)
        for argument in arguments:
            steps += budget.cost_of_copies(argument, _COPIES)
        budget.spent += steps
        # The library would print an exception to standard error. The caller checks the budget.
        return None if budget.is_exceeded else function(*arguments)

    return call


_UNCHARGED: Final[Mapping[str, Callable[..., Any]]] = {
    **EXTENSIONS,
    **OVERLOADS,
    **dict(REPLACED.values()),
}
_ALL: Final = {name: _charged(name, function) for name, function in _UNCHARGED.items()}


def called_by(program: cel.Program) -> dict[str, Callable[..., Any]]:
    """Return the functions of ours that a program may call.

    They charge the :data:`~tailrace_shared.workflow.expressions.budget.current` budget, and do
    nothing if it is exceeded.
    """
    called = set(program.functions())
    # The program reports `math.abs` without its namespace.
    return {name: each for name, each in _ALL.items() if name.rpartition(".")[2] in called}
