"""Limits on the live runs of a tenant, and on the runs below one root."""

import asyncio

import pytest

from tailrace_shared.commands.live_limits import DescendantLimit, LiveRunLimit
from tailrace_shared.errors import TooManyDescendantsError, TooManyLiveRunsError
from tailrace_shared.ids import new_execution_id
from tailrace_shared.stores.stores import Stores


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_live_runs_are_counted_with_those_of_other_processes(site):
    """A process adds its own starts, and counts again after a while."""
    live = Stores.over(site.jetstream, site.subjects, 1_000_000).live
    clock = Clock()
    limit = LiveRunLimit(live, 10, clock)
    runs = [new_execution_id() for _ in range(8)]
    for run in runs:
        await limit.check("t")
        await live.put("t", "w", run)
    # Another process starts three more.
    others = [new_execution_id() for _ in range(3)]
    for run in others:
        await live.put("t", "w", run)
    clock.now = 2.0
    with pytest.raises(TooManyLiveRunsError, match=r"10 runs .*\(TAILRACE_MAX_LIVE_RUNS\)"):
        await limit.check("t")
    await limit.check("u")
    for run in others:
        await live.remove("t", "w", run)
    clock.now = 2.2  # near the limit it counts more often
    await limit.check("t")
    await limit.check("t")
    with pytest.raises(TooManyLiveRunsError):
        await limit.check("t")


async def test_descendants_are_counted_exactly_over_all_workers(site):
    """Of concurrent starts as many as the limit are accepted; a repeated one counts once."""
    workers = [DescendantLimit(site.jetstream, site.subjects, 10) for _ in range(3)]
    for worker in workers:
        await worker.prepare()
    children = [new_execution_id() for _ in range(10)]
    await asyncio.gather(
        *(worker.count("t", "root", child) for child in children for worker in workers)
    )
    with pytest.raises(TooManyDescendantsError, match=r"run root .*\(TAILRACE_MAX_DESCENDANTS\)"):
        await workers[0].count("t", "root", new_execution_id())
    await workers[0].count("t", "other", new_execution_id())
    await workers[0].forget("t", "root")
    await workers[0].count("t", "root", new_execution_id())
