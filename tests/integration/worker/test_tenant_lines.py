"""Lines of tenants that have more to do than a worker may do for them at once."""

import hashlib
import time

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.stores import Stores
from tailrace_worker.engine.fairness.fair_share import FairShare
from tailrace_worker.engine.fairness.tenant_queues import TenantQueues


class Ground:
    """The lines of one worker, and what it gives jobs to."""

    def __init__(self, site, slots=8):
        stores = Stores.over(site.jetstream, site.subjects)
        self.line, self.due = stores.queues, stores.due
        self.jobs = []
        self.refuses = False
        self.share = FairShare(slots)
        self.lines = TenantQueues(self.share, stores, JobCallback(self.advance), time.time)

    async def advance(self, tenant, execution):
        """Take a job; a worker that is full by now has it stand in line again before all else."""
        self.jobs.append(execution)
        if self.refuses:
            self.refuses = False
            await self.line.join(_name(tenant), tenant, execution)


def _name(tenant):
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]


@pytest.fixture
def ground(site):
    """Nobody stands in line."""
    return Ground(site)


@pytest.fixture
def full(site):
    """A worker that has no room, and never calls anybody."""
    full = Ground(site, slots=1)
    full.share.acquire("other")
    return full


async def test_one_that_stands_in_line_is_called_once_there_is_room(ground):
    """And has no place in the line any more."""
    await ground.lines.join("t", "a")
    assert ground.jobs == ["a"]
    assert await ground.line.first(_name("t")) is None


async def test_one_that_is_called_and_refused_at_once_keeps_its_place(ground):
    """It was called when there was room, and there is none when its job comes."""
    ground.refuses = True
    await ground.lines.join("t", "a")
    assert await ground.line.first(_name("t")) == ("t", "a")
    await ground.lines.admit_next("t")
    assert ground.jobs == ["a", "a"]


async def test_a_line_is_emptied_by_workers_that_come_after_those_that_made_it(ground, full):
    """They look which tenants have one."""
    for execution in "abc":
        await full.lines.join("t", execution)
    await full.lines.join("u", "d")
    assert full.jobs == []
    await ground.lines.refresh_tenants()
    for tenant in "tttu":
        await ground.lines.admit_next(tenant)
    assert ground.jobs == ["a", "b", "c", "d"]


async def test_no_more_are_called_than_there_is_room_for(site, full):
    """Whose job met no room would lose its turn; whose turn it is, chance decides."""
    for tenant in "tuv":
        for number in range(3):
            await full.lines.join(tenant, f"{tenant}{number}")
    newcomer = Ground(site, slots=4)
    await newcomer.lines.refresh_tenants()
    await newcomer.lines.admit_waiting()
    assert len(newcomer.jobs) == 4
    for called in newcomer.jobs:
        before = [f"{called[0]}{number}" for number in range(int(called[1]))]
        assert set(before) <= set(newcomer.jobs)
    await newcomer.lines.admit_waiting()
    await newcomer.lines.admit_waiting()
    assert len(set(newcomer.jobs)) == 9


async def test_nobody_looks_for_a_line_that_is_empty(ground, site):
    """It is struck out by who finds nobody in it."""
    await ground.lines.join("t", "a")
    await ground.lines.admit_next("t")
    newcomer = Ground(site)
    await newcomer.lines.refresh_tenants()
    await newcomer.line.join(_name("t"), "t", "b")
    await newcomer.lines.admit_next("t")
    assert newcomer.jobs == []


async def test_a_line_that_is_joined_while_it_is_struck_out_stays_known(
    ground, full, site, monkeypatch
):
    """Between the look at the empty line and the striking out."""
    await ground.lines.join("t", "a")
    first, looks = ground.line.first, []

    async def joined_meanwhile(line):
        found = await first(line)
        looks.append(found)
        if len(looks) == 2:
            await full.lines.join("t", "b")
        return found

    monkeypatch.setattr(ground.line, "first", joined_meanwhile)
    await ground.lines.admit_next("t")
    assert looks == [None, None]
    newcomer = Ground(site)
    await newcomer.lines.refresh_tenants()
    await newcomer.lines.admit_next("t")
    assert newcomer.jobs == ["b"]


async def test_one_that_is_called_is_due_at_once(ground):
    """Its caller may die before it has a job; then the sweeper finds it."""
    await ground.lines.join("t", "a")
    (due,) = [due async for due in ground.due.entries()]
    assert (due.tenant, due.execution, due.by) == ("t", "a", NOW)
