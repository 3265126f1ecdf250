"""Firings that were missed, by the times of the cron expression and the firings recorded."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.commands.schedule_commands import key_of_firing
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.firings import firings_after, header_of
from tailrace_shared.nats.jobs import id_of_firing
from tailrace_shared.stores.firing_store import Firing
from tailrace_shared.stores.schedule_store import ActiveSchedule, Schedule
from tailrace_worker.engine.recovery.catch_up import CatchUp, CatchUpPeriods

HOUR = 3600.0
MIDNIGHT = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Stores:
    """Schedules and firings in memory, and the runs that were started."""

    def __init__(self, schedule: Schedule, last: Firing | None) -> None:
        self.schedule = schedule
        self.firing = last
        self.started: list[RunRequest] = []
        self.refuses = False

    async def active(self) -> AsyncIterator[ActiveSchedule]:
        """Yield the schedule."""
        yield ActiveSchedule("t", self.schedule, "tr.jobs.starts.t.s", "token")

    async def get_active(self, _tenant: str, _schedule: str) -> ActiveSchedule:
        """Return the schedule."""
        return await anext(self.active())

    async def last(self, _tenant: str, schedules: Iterable[str]) -> dict[str, Firing]:
        """Return the last firing."""
        return dict.fromkeys(schedules, self.firing) if self.firing else {}

    async def start(self, request: RunRequest) -> None:
        """Start a run and record its firing."""
        if self.refuses:
            raise InvalidInputError("no", [])
        self.started.append(request)

    @property
    def hours(self) -> list[float]:
        """The times of the runs, in hours after midnight."""
        times = [parse_timestamp(run.origin.scheduled_at or "") for run in self.started]
        return [(at - MIDNIGHT) / HOUR for at in times]


def caught_up(stores: Stores, now: float, window: float = 100 * HOUR) -> CatchUp:
    """Return the sweeper at a time, in hours after midnight."""
    parts: Any = stores
    lease: Any = None
    periods = CatchUpPeriods(1.0, window)
    return CatchUp(parts, parts, stores.start, lease, periods, lambda: MIDNIGHT + now * HOUR)


def hourly(**fields: Any) -> Schedule:
    """Return a schedule that fires each hour since midnight."""
    base: dict[str, Any] = {
        "id": "s",
        "workflow_id": "w",
        "cron": "0 * * * *",
        "time_zone": None,
        "input": {},
    }
    return Schedule(**{**base, "created_at": MIDNIGHT, **fields})


async def test_a_sweep_makes_up_all_since_the_last_firing() -> None:
    """But not the one that may be on its way."""
    stores = Stores(hourly(), Firing(MIDNIGHT + 2 * HOUR, "e"))
    assert await caught_up(stores, now=5.001).sweep() == 2
    assert stores.hours == [3, 4]
    assert len({request.key for request in stores.started}) == 2


@pytest.mark.parametrize(
    ("fields", "window", "expected"),
    [({}, 100, [1, 2, 3, 4]), ({}, 2.5, [3, 4]), ({"since": MIDNIGHT + 3.5 * HOUR}, 100, [4])],
)
async def test_neither_what_is_too_old_nor_a_pause_is_made_up(
    fields: dict[str, Any], window: float, expected: list[float]
) -> None:
    """A schedule without a firing counts from its creation."""
    stores = Stores(hourly(**fields), None)
    await caught_up(stores, now=4.5, window=window * HOUR).sweep()
    assert stores.hours == expected


async def test_the_next_firing_makes_up_those_before_it() -> None:
    """Neither the recorded one nor itself."""
    stores = Stores(hourly(), Firing(MIDNIGHT + HOUR, "e"))
    assert await caught_up(stores, now=4.0).before("t", "s", MIDNIGHT + 4 * HOUR) == 2
    assert stores.hours == [2, 3]


EVERY_HOUR = {"cron": "@every 1h", "created_at": MIDNIGHT - 0.5 * HOUR}


@pytest.mark.parametrize(
    ("last", "late", "window", "expected"),
    [
        (1.5, 2.5, 100, []),
        # NATS fires once for all that an outage swallowed: for the last of them.
        (1.5, 4.7, 100, [2.5, 3.5]),
        (1.5, 4.5, 100, [2.5, 3.5]),
        (1.5, 4.7, 1.5, [3.5]),
        (-2, 4.7, 100, []),
        (None, 4.7, 100, []),
    ],
)
async def test_the_next_firing_of_an_interval_makes_up_those_before_it(
    last: float | None, late: float, window: float, expected: list[float]
) -> None:
    """From the last one on, if that was one of this schedule."""
    firing = None if last is None else Firing(MIDNIGHT + last * HOUR, "e")
    stores = Stores(hourly(**EVERY_HOUR), firing)
    catch_up = caught_up(stores, now=late, window=window * HOUR)
    assert await catch_up.sweep() == 0
    assert await catch_up.before("t", "s", MIDNIGHT + late * HOUR) == len(expected)
    assert stores.hours == expected


async def test_a_firing_that_waits_for_a_worker_is_the_one_made_up() -> None:
    """Both have one idempotency key, so they start one run."""
    stores = Stores(hourly(**EVERY_HOUR), Firing(MIDNIGHT + 1.5 * HOUR, "e"))
    await caught_up(stores, now=4.0).before("t", "s", MIDNIGHT + 3.5 * HOUR)
    (request,) = stores.started
    waiting = id_of_firing("tr.jobs.starts.t.s", "2026-01-01T03:30:00Z")
    assert request.key == key_of_firing("s", "token", waiting)


async def test_a_schedule_whose_runs_are_refused_ends_with_the_first() -> None:
    """The others would be refused as well."""
    stores = Stores(hourly(), None)
    stores.refuses = True
    assert await caught_up(stores, now=4.5).sweep() == 0


def test_intervals_and_unknown_zones_have_no_times() -> None:
    """An interval needs the time of one of its firings."""
    assert list(firings_after("@every 5m", None, MIDNIGHT)) == []
    assert next(firings_after("@every 5m", None, MIDNIGHT + 299, MIDNIGHT)) == MIDNIGHT + 300
    assert list(firings_after("0 * * * *", "Nowhere/Here", MIDNIGHT)) == []


@pytest.mark.parametrize(
    ("zone", "expected"),
    [(None, "2026-01-01T00:00:00Z"), ("Europe/Vienna", "2026-01-01T01:00:00+01:00")],
)
def test_times_are_written_as_nats_writes_them(zone: str | None, expected: str) -> None:
    """They are part of the ids of firings."""
    assert header_of(MIDNIGHT, zone) == expected
