"""Tenant queues: executions wait while their tenant has its fair share of the slots."""

import asyncio

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.errors import UnavailableError
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import share_queue
from tailrace_worker.engine.fairness.fair_share import FairShare
from tailrace_worker.engine.fairness.tenant_queues import TenantQueues


class QueuesOfWorker:
    """The tenant queues of one worker, and the jobs that it publishes."""

    def __init__(self, site, slots=8):
        stores = Stores.over(site.jetstream, site.subjects)
        self.fifo, self.due = stores.queues, stores.due
        self.jobs = []
        self.refuses = False
        self.is_away = False
        self.share = FairShare(slots)
        self.queues = TenantQueues(self.share, stores, JobCallback(self.advance))

    async def advance(self, tenant, execution, **_):
        """Record a job; with ``refuses`` set, queue its execution again, as a full worker does.

        With ``is_away`` set, NATS does not store it.
        """
        if self.is_away:
            raise UnavailableError("no leader")
        self.jobs.append(execution)
        if self.refuses:
            self.refuses = False
            await self.fifo.join(share_queue(tenant), tenant, execution)


@pytest.fixture
def worker(site):
    """A worker with free slots and empty queues."""
    return QueuesOfWorker(site)


@pytest.fixture
def full_worker(site):
    """A worker without free slots, which admits no execution."""
    full_worker = QueuesOfWorker(site, slots=1)
    full_worker.share.acquire("other")
    return full_worker


async def test_a_queued_execution_is_admitted_when_a_slot_is_free(worker):
    """It leaves the queue."""
    await worker.queues.join([("t", "a")])
    assert worker.jobs == ["a"]
    assert await worker.fifo.first(share_queue("t")) is None


async def test_an_execution_that_is_refused_after_its_admission_keeps_its_place(worker):
    """A slot was free at its admission, but none when its job arrives."""
    worker.refuses = True
    await worker.queues.join([("t", "a")])
    assert await worker.fifo.first(share_queue("t")) == ("t", "a")
    await worker.queues.admit_next("t")
    assert worker.jobs == ["a", "a"]


async def test_a_job_that_cannot_be_published_is_published_later(worker):
    """The execution has left its queue, so no other worker would admit it."""
    worker.is_away = True
    await worker.queues.join([("t", "a")])
    assert (worker.jobs, await worker.fifo.first(share_queue("t"))) == ([], None)
    worker.is_away = False
    await worker.queues.publish_admitted()
    await worker.queues.publish_admitted()
    assert worker.jobs == ["a"]


async def test_an_execution_that_may_have_left_its_queue_gets_a_job(worker, monkeypatch):
    """NATS has removed it, and the answer is lost."""
    leave = worker.fifo.leave

    async def lose_answer(*where):
        await leave(*where)
        raise UnavailableError("no answer")

    monkeypatch.setattr(worker.fifo, "leave", lose_answer)
    await worker.queues.join([("t", "a")])
    assert (worker.jobs, await worker.fifo.first(share_queue("t"))) == ([], None)
    await worker.queues.publish_admitted()
    assert worker.jobs == ["a"]


async def test_a_new_worker_empties_the_queues_of_earlier_workers(worker, full_worker):
    """It reads which tenants have a queue."""
    for execution in "abc":
        await full_worker.queues.join([("t", execution)])
    await full_worker.queues.join([("u", "d")])
    assert full_worker.jobs == []
    await worker.queues.refresh_tenants()
    for tenant in "tttu":
        await worker.queues.admit_next(tenant)
    assert worker.jobs == ["a", "b", "c", "d"]


async def test_no_more_executions_are_admitted_than_slots_are_free(site, full_worker):
    """A refused job would lose its turn. Tenants are picked at random, and each in order."""
    for tenant in "tuv":
        for number in range(3):
            await full_worker.queues.join([(tenant, f"{tenant}{number}")])
    new_worker = QueuesOfWorker(site, slots=4)
    await new_worker.queues.refresh_tenants()
    await new_worker.queues.admit_waiting()
    assert len(new_worker.jobs) == 4
    for called in new_worker.jobs:
        before = [f"{called[0]}{number}" for number in range(int(called[1]))]
        assert set(before) <= set(new_worker.jobs)
    await new_worker.queues.admit_waiting()
    await new_worker.queues.admit_waiting()
    assert len(set(new_worker.jobs)) == 9


async def test_an_empty_queue_is_unregistered(worker, site):
    """The worker that finds it empty removes it from the list of queues."""
    await worker.queues.join([("t", "a")])
    await worker.queues.admit_next("t")
    new_worker = QueuesOfWorker(site)
    await new_worker.queues.refresh_tenants()
    await new_worker.fifo.join(share_queue("t"), "t", "b")
    await new_worker.queues.admit_next("t")
    assert new_worker.jobs == []


async def test_a_queue_that_is_joined_while_it_is_unregistered_stays_registered(
    worker, full_worker, site, monkeypatch
):
    """The execution joins between the check for emptiness and the removal."""
    await worker.queues.join([("t", "a")])
    first, reads = worker.fifo.first, []

    async def joined_meanwhile(line):
        found = await first(line)
        reads.append(found)
        if len(reads) == 2:
            await full_worker.queues.join([("t", "b")])
        return found

    monkeypatch.setattr(worker.fifo, "first", joined_meanwhile)
    await worker.queues.admit_next("t")
    assert reads == [None, None]
    new_worker = QueuesOfWorker(site)
    await new_worker.queues.refresh_tenants()
    await new_worker.queues.admit_next("t")
    assert new_worker.jobs == ["b"]


async def test_an_admitted_execution_is_due_at_once(worker):
    """If the admitting worker dies before publishing the job, the sweeper finds it."""
    await worker.queues.join([("t", "a")])
    (due,) = [due async for due in worker.due.entries()]
    assert (due.tenant, due.execution, due.by) == ("t", "a", NOW)


async def test_ended_jobs_do_not_pile_up_behind_an_admission(worker, full_worker):
    """They may end faster than NATS admits the next; each would hold memory, and admit too many."""
    for execution in "abc":
        await full_worker.queues.join([("t", execution)])
    await worker.queues.refresh_tenants()
    tasks = len(asyncio.all_tasks())
    for _ in range(1_000):
        worker.queues.admit_soon("t")
    assert len(asyncio.all_tasks()) <= tasks + 1
    async with asyncio.timeout(60):
        while worker.queues.has_queue("t"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert worker.jobs == ["a", "b", "c"]
