"""Check the schedules of a definition."""

import re
from collections.abc import Mapping
from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_shared.ids import is_valid_id
from tailrace_shared.recurrence import parse_recurrence
from tailrace_shared.workflow.definition import ScheduleSpec
from tailrace_shared.workflow.problem_report import ProblemReport, without_nulls

MAX_SCHEDULES: Final = 100

_FIELDS: Final = ("id", "cron", "every", "time_zone", "input", "overlap")
_NULLABLE: Final = ("cron", "every", "time_zone", "overlap")
_OVERLAPS: Final = ("queue", "skip", "cancel")
# NATS also accepts "Local", the time zone of its own machine.
_TIME_ZONE: Final = re.compile(r"(?!Local\Z)[A-Za-z0-9_+/-]{1,64}")


def check_schedules(problems: ProblemReport, pointer: str, schedules: Any) -> None:
    """Check the schedules, except for their inputs."""
    if not isinstance(schedules, list):
        problems.report(pointer, "schedules must be a list of objects with the fields id and cron")
        return
    if len(schedules) > MAX_SCHEDULES:
        problems.report(pointer, f"{len(schedules)} schedules; the limit is {MAX_SCHEDULES}")
    ids: set[str] = set()
    for index, schedule in enumerate(schedules[:MAX_SCHEDULES]):
        at = f"{pointer}/{index}"
        if not isinstance(schedule, dict):
            problems.report(at, "a schedule must be an object with the fields id and cron")
            continue
        _check(problems, at, without_nulls(schedule, _NULLABLE))
        schedule_id = schedule.get("id")
        if isinstance(schedule_id, str):
            if schedule_id in ids:
                problems.report(f"{at}/id", f"another schedule has the id {schedule_id!r}")
            ids.add(schedule_id)


def pattern_of(schedule: ScheduleSpec) -> str:
    """Return the recurrence pattern of a valid schedule, as NATS takes it.

    Raises:
        ValueError: the interval is not a whole number of seconds.
    """
    if schedule.every is not None:
        return _interval(schedule.every)
    # NATS accepts no tabs, and only one space between the fields.
    return " ".join((schedule.cron or "").split())


def _check(problems: ProblemReport, at: str, schedule: Mapping[str, Any]) -> None:
    problems.fields(at, schedule, _FIELDS, required=("id",))
    schedule_id, time_zone = schedule.get("id"), schedule.get("time_zone")
    if "id" in schedule and not (isinstance(schedule_id, str) and is_valid_id(schedule_id)):
        problems.report(f"{at}/id", "an id must be 1 to 64 letters, digits, '_' or '-'")
    problems.optional(schedule, at, "overlap", problems.choice(_OVERLAPS))
    if ("cron" in schedule) == ("every" in schedule):
        problems.report(at, "a schedule must have exactly one of cron and every")
    if "cron" in schedule:
        _check_cron(problems, f"{at}/cron", schedule["cron"])
    if "every" in schedule:
        _check_every(problems, f"{at}/every", schedule["every"])
    if time_zone is None:
        return
    if not isinstance(time_zone, str) or _TIME_ZONE.fullmatch(time_zone) is None:
        detail = "time_zone must be the name of an IANA time zone, for example 'Europe/Vienna'"
        problems.report(f"{at}/time_zone", detail)
    elif "every" in schedule:
        problems.report(f"{at}/time_zone", "an interval cannot have a time zone")


def _check_cron(problems: ProblemReport, at: str, cron: Any) -> None:
    if not isinstance(cron, str):
        problems.report(at, "cron must be a cron expression with five fields, or '@hourly'")
        return
    try:
        parse_recurrence(" ".join(cron.split()))
    except ValueError as error:
        problems.report(at, str(error))


def _check_every(problems: ProblemReport, at: str, every: Any) -> None:
    if problems.duration(at, every) is None:
        return
    try:
        parse_recurrence(_interval(every))
    except ValueError as error:
        problems.report(at, str(error))


def _interval(every: str) -> str:
    return f"@every {round(Duration.parse(every) * 1000)}ms"
