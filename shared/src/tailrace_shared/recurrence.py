"""When something recurs: a cron line, ``@every 5m``, or a name like ``@hourly``.

JetStream keeps the schedules and fires them (ADR-51). It refuses a pattern without saying what is
wrong with it; this module reads the same patterns to say that in a sentence, and to tell when a
cron line comes next.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

from tailrace_shared.duration import LONGEST

NAMES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}

_EVERY: Final = "@every "
# Those of Go's durations that make sense here.
_UNITS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_INTERVAL = re.compile(r"(?:[0-9]{1,12}(?:h|ms|m|s))+")
_INTERVAL_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_OF: Final = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1))
_LONGEST_PATTERN: Final = 200
#: NATS looks no further ahead either, and takes what does not come by then for a mistake.
_HORIZON: Final = timedelta(days=5 * 365)


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    names: Mapping[str, int] = {}
    hint: str = ""


_FIELDS: Final = (
    _Field("seconds", 0, 59),
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 6, {name: n for n, name in enumerate(_WEEKDAYS)}, " (0 is Sunday)"),
)


@dataclass(frozen=True, slots=True)
class Every:
    """An interval in seconds."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Cron:
    """The moments of a cron line, by the values that each field may have.

    Attributes:
        any_day: whether one of the two fields of days is a star; then both have to match,
            otherwise one of them.
    """

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    @property
    def can_come(self) -> bool:
        """Whether there is such a day at all; the 30th of February is none."""
        days_matter = self.any_day and len(self.days) < 31
        return not days_matter or any(min(self.days) <= _DAYS_OF[month] for month in self.months)

    def next(self, after: float, zone: tzinfo) -> float | None:
        """Return the first moment after ``after`` (both Unix time); None if none is near.

        A local time that a clock change skips does not come, one that it repeats comes twice.
        """
        moment = int(after) + 1
        end = moment + _HORIZON.total_seconds()
        while moment < end:
            local = datetime.fromtimestamp(moment, zone)
            if not self._is_day(local):
                midnight = datetime.combine(local.date() + timedelta(days=1), time(), zone)
                moment = int(midnight.timestamp())
                continue
            if local.hour in self.hours and local.minute in self.minutes:
                left = [second for second in self.seconds if second >= local.second]
                if left:
                    return moment + min(left) - local.second
            moment += 60 - local.second
        return None

    def _is_day(self, local: datetime) -> bool:
        if local.month not in self.months:
            return False
        day = local.day in self.days
        weekday = local.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.any_day else (day or weekday)


def parse_recurrence(pattern: str) -> Every | Cron:
    """Read a pattern.

    Raises:
        ValueError: with a sentence that says what is wrong.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"it is longer than {_LONGEST_PATTERN} characters")
    if pattern.startswith(_EVERY):
        return _parse_interval(pattern.removeprefix(_EVERY))
    if pattern.startswith("@") and pattern not in NAMES:
        raise ValueError(f"{pattern!r} is none of @every and {', '.join(NAMES)}")
    return _parse_cron(NAMES.get(pattern, pattern))


def _parse_interval(text: str) -> Every:
    if _INTERVAL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an interval; write for example 30s, 5m or 168h")
    parts = _INTERVAL_PART.findall(text)
    milliseconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if milliseconds < 1000:
        raise ValueError("an interval is at least 1s")
    if milliseconds % 1000:
        raise ValueError("an interval is a whole number of seconds")
    if milliseconds > LONGEST * 1000:
        raise ValueError("an interval is at most a century")
    return Every(milliseconds // 1000)


def _parse_cron(line: str) -> Cron:
    texts = line.split(" ")
    if len(texts) != len(_FIELDS):
        raise ValueError(
            "a cron line has six fields, separated by a space: seconds, minutes, hours, "
            f"day of month, month, day of week; this one has {len(texts)}"
        )
    seconds, minutes, hours, days, months, weekdays = (
        _parse_field(text, field) for text, field in zip(texts, _FIELDS, strict=True)
    )
    any_day = any(_is_star(part) for text in (texts[3], texts[5]) for part in text.split(","))
    cron = Cron(seconds, minutes, hours, days, months, weekdays, any_day)
    if not cron.can_come:
        raise ValueError("day of month: none of these months has such a day")
    return cron


def _parse_field(text: str, field: _Field) -> frozenset[int]:
    try:
        return frozenset().union(*(_parse_part(part, field) for part in text.split(",")))
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None


def _parse_part(part: str, field: _Field) -> range:
    span, slash, step_text = part.partition("/")
    step = _number(step_text) if slash else 1
    if not 1 <= step <= field.most:
        raise ValueError(f"the step {step_text} is not in 1 to {field.most}")
    if span in {"*", "?"}:
        return range(field.least, field.most + 1, step)
    first, dash, last = span.partition("-")
    start = _value(first, field)
    # A single value with a step means from there on.
    end = _value(last, field) if dash else field.most if slash else start
    if start > end:
        raise ValueError(f"the range {span} ends before it begins")
    return range(start, end + 1, step)


def _value(text: str, field: _Field) -> int:
    value = field.names.get(text.lower())
    value = _number(text) if value is None else value
    if not field.least <= value <= field.most:
        raise ValueError(f"{text} is not in {field.least} to {field.most}{field.hint}")
    return value


def _number(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text) is None:
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def _is_star(part: str) -> bool:
    span, _, step = part.partition("/")
    return span in {"*", "?"} and step in {"", "1"}
