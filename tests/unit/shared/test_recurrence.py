"""Parsing of recurrence patterns, and the next time of cron expressions."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.recurrence import NAMES, Cron, Every, parse_recurrence, with_seconds

VIENNA = ZoneInfo("Europe/Vienna")


def next_time(pattern: str, after: str, zone: ZoneInfo = VIENNA) -> str | None:
    """Return the next match of a cron expression after a local time, with its offset."""
    cron = parse_recurrence(pattern)
    assert isinstance(cron, Cron)
    moment = datetime.fromisoformat(after)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    found = cron.next(moment.timestamp(), zone)
    return None if found is None else datetime.fromtimestamp(found, zone).isoformat()


@pytest.mark.parametrize(
    ("pattern", "seconds"),
    [("@every 1s", 1), ("@every 5m", 300), ("@every 1h30m", 5400), ("@every 500ms500ms", 1)],
)
def test_intervals(pattern, seconds):
    """Intervals use the syntax of Go durations."""
    assert parse_recurrence(pattern) == Every(seconds)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "five fields"),
        ("* * * *", "this one has 4"),
        ("0 0 0 * * * 2030", "this one has 7"),
        ("0\t0 0 * *", "five fields"),
        ("60 * * * * *", "seconds: 60 is not between 0 and 59"),
        ("0 60 * * * *", "minutes: 60 is not between 0 and 59"),
        ("0 0 24 * * *", "hours: 24 is not between 0 and 23"),
        ("0 0 0 0 * *", "day of month: 0 is not between 1 and 31"),
        ("0 0 0 1 13 *", "month: 13 is not between 1 and 12"),
        ("0 0 0 * * 7", "day of week: 7 is not between 0 and 6 (0 is Sunday)"),
        ("0 0 0 * MONDAY *", "month: 'MONDAY' is not a number"),
        ("0 0 0 L * *", "day of month: 'L' is not a number"),
        ("*/0 * * * * *", "seconds: the step 0 is not between 1 and 59"),
        ("*/60 * * * * *", "seconds: the step 60 is not between 1 and 59"),
        ("1/2/3 * * * * *", "seconds: '2/3' is not a number"),
        ("5-1 * * * * *", "seconds: the range 5-1 ends before it starts"),
        ("1,,2 * * * * *", "seconds: '' is not a number"),
        ("-1 * * * * *", "seconds: '' is not a number"),
        ("² * * * * *", "seconds: '²' is not a number"),
        ("0 0 0 30 2 *", "none of the months has this day"),
        ("0 0 0 31 4,6,9,11 *", "none of the months has this day"),
        ("@every 500ms", "at least 1s"),
        ("@every 0s", "at least 1s"),
        ("@every 1500ms", "whole number of seconds"),
        ("@every 7d", "'7d' is not an interval"),
        ("@every 1.5h", "not an interval"),
        ("@every -5m", "not an interval"),
        ("@every  5m", "not an interval"),
        ("@every 999999999999h", "a century"),
        ("@at 2030-01-01T00:00:00Z", "is not @every or one of @yearly"),
        ("@Hourly", "is not @every"),
        ("0 " * 200, "longer than 200"),
    ],
)
def test_an_invalid_pattern_is_refused_with_the_reason(pattern, words):
    """The message names the field and its range."""
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_recurrence(pattern)


@pytest.mark.parametrize(
    ("pattern", "after", "following"),
    [
        ("* * * * * *", "2026-11-21T10:00:00", "2026-11-21T10:00:01+01:00"),
        ("*/15 * * * * *", "2026-11-21T10:00:46", "2026-11-21T10:01:00+01:00"),
        ("5/20 * * * * *", "2026-11-21T10:00:26", "2026-11-21T10:00:45+01:00"),
        ("0 0 9 * * MON-FRI", "2026-11-21T10:00:00", "2026-11-23T09:00:00+01:00"),
        ("0 0 0 ? * sun", "2026-11-22T00:00:00", "2026-11-29T00:00:00+01:00"),
        ("0 0 0 29 2 *", "2026-11-21T10:00:00", "2028-02-29T00:00:00+01:00"),
        ("0 0 12 31 * *", "2026-11-21T10:00:00", "2026-12-31T12:00:00+01:00"),
        # With both day fields, one match is enough, as in cron.
        ("0 0 0 13 * FRI", "2026-11-21T00:00:00", "2026-11-27T00:00:00+01:00"),
        ("0 0 0 13 * */2", "2026-11-21T00:00:00", "2026-11-22T00:00:00+01:00"),
        ("0 0 0 */1 * FRI", "2026-11-21T00:00:00", "2026-11-27T00:00:00+01:00"),
        ("@hourly", "2026-11-21T10:00:00", "2026-11-21T11:00:00+01:00"),
        ("@yearly", "2026-11-21T10:00:00", "2027-01-01T00:00:00+01:00"),
        # 2:30 does not exist when the clock goes forward, and exists twice when it goes back.
        ("0 30 2 * * *", "2027-03-27T12:00:00", "2027-03-29T02:30:00+02:00"),
        ("0 30 2 * * *", "2027-10-30T12:00:00", "2027-10-31T02:30:00+02:00"),
        ("0 30 2 * * *", "2027-10-31T02:30:00+02:00", "2027-10-31T02:30:00+01:00"),
        ("0 30 2 28 3 *", "2027-03-01T00:00:00", "2028-03-28T02:30:00+02:00"),
    ],
)
def test_the_next_time_of_a_cron_expression(pattern, after, following):
    """The next time is strictly later, in the time zone of the schedule."""
    assert next_time(pattern, after) == following


def test_every_name_is_a_cron_expression():
    """Every name has a next time."""
    for name in NAMES:
        assert next_time(name, "2026-11-21T10:00:00") is not None


FIELD = st.sampled_from(["*", "*/5", "3", "1,5", "2-4"])


@given(st.tuples(*[FIELD] * 6), st.integers(0, 2**31))
def test_the_next_moment_is_the_first_that_matches(fields, after):
    """Compared with a search by seconds over 100 seconds."""
    cron = parse_recurrence(" ".join(fields))
    assert isinstance(cron, Cron)
    found = cron.next(after, UTC)
    assert found is None or found > after

    def matches(moment: float) -> bool:
        local = datetime.fromtimestamp(moment, UTC)
        return (
            local.second in cron.seconds
            and local.minute in cron.minutes
            and local.hour in cron.hours
            and local.month in cron.months
            and cron._is_day(local)
        )

    assert found is None or matches(found)
    near = [moment for moment in range(after + 1, after + 100) if matches(moment)]
    if near or (found is not None and found < after + 100):
        assert found == near[0]


def test_the_search_for_the_next_time_ends():
    """The horizon is five years."""
    cron = parse_recurrence("0 0 0 29 2 *")
    assert isinstance(cron, Cron)
    assert cron.next(datetime(2096, 3, 1, tzinfo=UTC).timestamp(), UTC) is None


@pytest.mark.parametrize("pattern", ["30 6 * * MON-FRI", "* * * * *", "*/5 0 1 1 *"])
def test_five_fields_fire_at_second_zero(pattern):
    """As crontab has them; NATS takes six."""
    assert parse_recurrence(pattern) == parse_recurrence(f"0 {pattern}")
    assert with_seconds(pattern) == f"0 {pattern}"


@pytest.mark.parametrize("pattern", ["0 0 9 * * *", "@hourly", "@every 5m"])
def test_other_patterns_stay_as_they_are(pattern):
    assert with_seconds(pattern) == pattern
