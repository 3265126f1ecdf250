"""Parse recurrence patterns of schedules (cron, ``@every 5m``, names like ``@hourly``).

JetStream stores and fires the schedules (ADR-51), but rejects an invalid pattern without a reason.
This module parses the same patterns to explain what is wrong with one, and to compute the next
time of a cron expression.
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
# The units of Go durations that are useful here.
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
_MAX_PATTERN_CHARACTERS: Final = 200
#: NATS has the same horizon, and treats a pattern without a time before it as an error.
_HORIZON: Final = timedelta(days=5 * 365)


class _Field(NamedTuple):
    name: str
    min: int
    max: int
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
    """A cron expression, as the set of values of each field.

    Attributes:
        any_day: whether one of the two day fields is a star. If so, both must match; otherwise
            one match is enough.
    """

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    @property
    def has_matches(self) -> bool:
        """Whether any date matches; the 30th of February does not exist."""
        days_matter = self.any_day and len(self.days) < 31
        return not days_matter or any(min(self.days) <= _DAYS_OF[month] for month in self.months)

    def next(self, after: float, zone: tzinfo) -> float | None:
        """Return the first match after ``after`` (Unix times), or None within five years.

        A local time that a clock change skips does not match; a repeated one matches twice.
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
    """Parse a pattern.

    Raises:
        ValueError: the message explains what is wrong.
    """
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        raise ValueError(f"the pattern is longer than {_MAX_PATTERN_CHARACTERS} characters")
    if pattern.startswith(_EVERY):
        return _parse_interval(pattern.removeprefix(_EVERY))
    if pattern.startswith("@") and pattern not in NAMES:
        raise ValueError(f"{pattern!r} is not @every or one of {', '.join(NAMES)}")
    return _parse_cron(NAMES.get(pattern, pattern))


def with_seconds(pattern: str) -> str:
    """Return a cron expression of five fields with second 0 in front; others unchanged."""
    is_short = not pattern.startswith("@") and pattern.count(" ") == len(_FIELDS) - 2
    return f"0 {pattern}" if is_short else pattern


def _parse_interval(text: str) -> Every:
    if _INTERVAL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an interval; use a form like 30s, 5m or 168h")
    parts = _INTERVAL_PART.findall(text)
    milliseconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if milliseconds < 1000:
        raise ValueError("an interval must be at least 1s")
    if milliseconds % 1000:
        raise ValueError("an interval must be a whole number of seconds")
    if milliseconds > LONGEST * 1000:
        raise ValueError("an interval must be at most a century")
    return Every(milliseconds // 1000)


def _parse_cron(line: str) -> Cron:
    texts = with_seconds(line).split(" ")
    if len(texts) != len(_FIELDS):
        raise ValueError(
            "a cron expression has five fields, separated by single spaces: minutes, hours, day "
            "of month, month, day of week; or six, with seconds first; this one has "
            f"{len(texts)}"
        )
    seconds, minutes, hours, days, months, weekdays = (
        _parse_field(text, field) for text, field in zip(texts, _FIELDS, strict=True)
    )
    any_day = any(_is_star(part) for text in (texts[3], texts[5]) for part in text.split(","))
    cron = Cron(seconds, minutes, hours, days, months, weekdays, any_day)
    if not cron.has_matches:
        raise ValueError("day of month: none of the months has this day")
    return cron


def _parse_field(text: str, field: _Field) -> frozenset[int]:
    try:
        return frozenset().union(*(_parse_part(part, field) for part in text.split(",")))
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None


def _parse_part(part: str, field: _Field) -> range:
    span, slash, step_text = part.partition("/")
    step = _number(step_text) if slash else 1
    if not 1 <= step <= field.max:
        raise ValueError(f"the step {step_text} is not between 1 and {field.max}")
    if span in {"*", "?"}:
        return range(field.min, field.max + 1, step)
    first, dash, last = span.partition("-")
    start = _value(first, field)
    # A single value with a step means a range from there to the maximum.
    end = _value(last, field) if dash else field.max if slash else start
    if start > end:
        raise ValueError(f"the range {span} ends before it starts")
    return range(start, end + 1, step)


def _value(text: str, field: _Field) -> int:
    value = field.names.get(text.lower())
    value = _number(text) if value is None else value
    if not field.min <= value <= field.max:
        raise ValueError(f"{text} is not between {field.min} and {field.max}{field.hint}")
    return value


def _number(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text) is None:
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def _is_star(part: str) -> bool:
    span, _, step = part.partition("/")
    return span in {"*", "?"} and step in {"", "1"}
