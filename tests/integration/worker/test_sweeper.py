"""The sweeper publishes a job for every execution that has lost its own."""

import asyncio
import time

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commands import request_cancel
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.fenced_append import VERSION
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.stores.indexes.due_index import DueIndex
from tailrace_shared.stores.indexes.live_index import Live, LiveIndex
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_worker.engine.recovery.queue_backlog import QueueBacklog
from tailrace_worker.engine.recovery.sweeper import (
    CREATION_GRACE_S,
    GRACE_S,
    Fleet,
    Periods,
    Sweeper,
)

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("log")}), 1)
HOUR = 3600.0
"""Longer than any test, so an entry written before it is overdue."""


class SweepScene:
    """Executions to sweep, a sweeper, and a clock that the test controls.

    Attributes:
        start: when the test began, in seconds since the epoch.
        elapsed: seconds from then to the sweep; only the test changes them.
    """

    def __init__(self, site):
        self.site = site
        self.due = DueIndex(site.jetstream, site.subjects)
        self.live = LiveIndex(site.jetstream, site.subjects)
        self.jobs = []
        self.driving = set()
        self.in_queue = set()
        self.asked = []
        self.oldest = None
        self.start = time.time()
        self.elapsed = HOUR
        self.sweeper = self.new_sweeper()

    def new_sweeper(self, interval=20.0):
        """Return the sweeper of another worker."""
        return Sweeper(
            Stores.over(self.site.jetstream, self.site.subjects),
            Fleet(self.is_driving, self.is_queued, JobCallback(self.advance), self.oldest_waiting),
            Periods(interval, ack_wait=10.0),
            lambda: self.start + self.elapsed,
        )

    async def is_queued(self, tenant, execution):
        """Return whether the execution waits in its tenant's queue."""
        return (tenant, execution) in self.in_queue

    async def is_driving(self, worker, tenant, execution):
        """Respond like a worker."""
        self.asked.append(worker)
        return (worker, tenant, execution) in self.driving

    async def advance(self, _tenant, execution):
        """Publish a job."""
        self.jobs.append(execution)

    async def oldest_waiting(self):
        """Return when the oldest undelivered job was published."""
        return self.oldest

    async def entries(self):
        """Return the executions that have an entry."""
        return {due.execution async for due in self.due.entries()}

    async def queued(self, by=0.0):
        """Return an execution that was created but whose job was not published."""
        execution = new_execution_id()
        await self.due.put("t", execution, self.start + by)
        await self.site.log.create("t", execution, WORKFLOW, None)
        return execution

    async def started(self, *events, by=0.0):
        """Return an execution that a worker has started."""
        execution = await self.queued(by)
        started = ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)
        await self.site.commit(execution, started, *events)
        return execution


@pytest.fixture
def scene(site):
    """A scene without executions."""
    return SweepScene(site)


class TestLostJobs:
    """One sweep publishes a job for each of these."""

    async def test_an_execution_whose_job_was_never_published(self, scene):
        """The process that started it died before publishing."""
        execution = await scene.queued()
        assert await scene.sweeper.sweep() == 1
        assert scene.jobs == [execution]

    async def test_a_wait_that_has_lost_its_timer(self, scene):
        """An operator has purged the schedule."""
        waits = ev.StepWait("n", "delay", "waiting", until=NOW)
        begun = ev.StepStarted(ev.StepBegun("n", "delay", "running", 1, NOW), NOW)
        execution = await scene.started(begun, ev.StepWaiting(waits, NOW), by=HOUR)
        assert await scene.sweeper.sweep() == 0
        scene.elapsed += HOUR
        assert await scene.sweeper.sweep() == 1
        assert scene.jobs == [execution]
        assert scene.asked == ["worker"]

    async def test_a_command_without_a_job(self, scene):
        """The sweeper asks the driver of the execution, not the API, which wrote last."""
        execution = await scene.started()
        await scene.due.put("t", execution, time.time())
        await scene.site.log.request(
            "t", execution, lambda state: request_cancel(state, "c", "enough", 0.0)
        )
        assert await scene.sweeper.sweep() == 1
        assert (scene.jobs, scene.asked) == ([execution], ["worker"])

    async def test_any_number_at_once(self, scene):
        """Each gets one job, and the next sweep leaves it time to run."""
        executions = {await scene.queued() for _ in range(100)}
        assert await scene.sweeper.sweep() == 100
        assert len(scene.jobs) == 100
        assert set(scene.jobs) == executions
        scene.elapsed += 21.0
        assert await scene.sweeper.sweep() == 0
        scene.elapsed += GRACE_S
        assert await scene.sweeper.sweep() == 100


class TestObsoleteEntries:
    """Entries that are obsolete."""

    async def test_an_execution_that_was_never_created(self, scene):
        """The entry is deleted a minute after it was written."""
        await scene.due.put("t", "never", time.time())
        await scene.live.put("t", "w", "never")
        await scene.live.put("t", "w", "other")
        scene.elapsed = CREATION_GRACE_S - 1.0
        assert await scene.sweeper.sweep() == 0
        assert await scene.entries() == {"never"}
        assert len(await scene.live.of_tenant("t")) == 2
        scene.elapsed = HOUR
        assert await scene.sweeper.sweep() == 0
        assert (await scene.entries(), scene.jobs) == (set(), [])
        assert await scene.live.of_tenant("t") == [Live("w", "other")]

    async def test_an_execution_that_has_ended(self, scene):
        """Its worker may have died before the clean-up, which one more job does."""
        execution = await scene.started()
        end = ev.ExecutionCompleted(ev.Completed(execution, "completed", 1), NOW)
        await scene.site.commit(execution, end)
        assert await scene.sweeper.sweep() == 0
        assert (await scene.entries(), scene.jobs) == (set(), [execution])

    async def test_an_execution_whose_beginning_has_expired(self, scene):
        """No worker can drive it."""
        execution = await scene.started()
        subject = scene.site.subjects.log("t", execution)
        await scene.site.jetstream.api(
            f"STREAM.PURGE.{scene.site.events}", {"filter": subject, "keep": 1}
        )
        await scene.site.commit(
            execution,
            ev.CommandRequested(ev.Command(execution, "cancel", "c"), NOW),
            writer="",
        )
        assert await scene.sweeper.sweep() == 0
        assert (await scene.entries(), scene.jobs) == (set(), [])


class TestOverdueCount:
    """The metric counts executions that need a worker and have none."""

    async def test_what_a_worker_drives_is_not_overdue(self, scene):
        """A step may take hours, and its execution has the entry of its start until it waits."""
        execution = await scene.started()
        scene.driving.add(("worker", "t", execution))
        counts = await self._sweep(scene)
        assert (counts.overdue, counts.rescued) == (0, 0)

    async def test_what_waits_in_a_queue_or_has_lost_its_job_is_overdue(self, scene):
        scene.in_queue.add(("t", await scene.queued()))
        counts = await self._sweep(scene)
        assert (counts.overdue, counts.rescued) == (1, 0)
        await scene.queued()
        scene.elapsed += HOUR
        counts = await self._sweep(scene)
        assert (counts.overdue, counts.rescued) == (2, 1)

    async def _sweep(self, scene):
        await scene.sweeper.sweep()
        return scene.sweeper._counts


class TestNoJobNeeded:
    """Entries that need no job."""

    async def test_what_is_not_due(self, scene):
        """The sweeper asks no worker about it."""
        await scene.started(by=HOUR)
        assert await scene.sweeper.sweep() == 0
        assert scene.asked == []

    async def test_what_waits_in_its_tenants_queue(self, scene):
        """It gets its job when the tenant has a free slot."""
        execution = await scene.queued()
        scene.in_queue.add(("t", execution))
        assert await scene.sweeper.sweep() == 0
        assert scene.jobs == []

    async def test_what_a_worker_drives(self, scene):
        """A step may take hours without a commit."""
        execution = await scene.started()
        scene.driving.add(("worker", "t", execution))
        assert await scene.sweeper.sweep() == 0
        assert (await scene.entries(), scene.asked) == ({execution}, ["worker"])

    async def test_what_was_written_a_moment_ago(self, scene):
        """A worker may be about to drive it, or JetStream will redeliver its job."""
        execution = await scene.queued(by=-100.0)
        scene.elapsed = 2.0
        assert await scene.sweeper.sweep() == 0
        assert await scene.entries() == {execution}

    async def test_what_may_be_in_the_queue(self, scene):
        """A job may still be queued until a later job is the oldest one."""
        execution = await scene.queued()
        scene.oldest = time.time() - 1.0
        assert await scene.sweeper.sweep() == 0
        scene.elapsed += 21.0
        scene.oldest = time.time() + GRACE_S + 1.0
        assert await scene.sweeper.sweep() == 1
        assert scene.jobs == [execution]

    async def test_what_a_newer_version_has_written(self, scene):
        """Workers of that version have their own sweepers."""
        execution = await scene.queued()
        await scene.site.jetstream.publish(
            scene.site.subjects.log("t", execution), b"[]", {VERSION: "99"}
        )
        assert await scene.sweeper.sweep() == 0
        assert await scene.entries() == {execution}

    @pytest.mark.parametrize("payload", [b"no JSON", b'[{"type": "no:event"}]'])
    async def test_an_unreadable_log(self, scene, payload):
        """The other executions are swept nevertheless."""
        unreadable = await scene.queued()
        subject = scene.site.subjects.log("t", unreadable)
        await scene.site.jetstream.publish(subject, payload)
        lost = await scene.queued()
        assert await scene.sweeper.sweep() == 1
        assert scene.jobs == [lost]


class TestTurns:
    """How workers share the sweeps."""

    async def test_one_of_many_workers_sweeps(self, scene):
        """The next sweep follows after the interval."""
        await scene.queued()
        sweepers = [scene.new_sweeper() for _ in range(8)]
        assert sum(await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))) == 1
        await scene.queued()
        assert await sweepers[0].sweep() == 0
        scene.elapsed += 21.0
        assert await sweepers[1].sweep() == 1

    async def test_a_wrong_clock_does_not_stop_sweeping(self, scene):
        """For example, the clock of a worker that was an hour ahead."""
        scene.elapsed += 3600.0
        await scene.sweeper.sweep()
        scene.elapsed -= 3600.0
        await scene.queued()
        assert await scene.new_sweeper().sweep() == 1

    async def test_sweeping_survives_an_outage_of_nats(self, scene):
        """The sweeper retries after each interval."""
        swept = asyncio.Event()
        failures = iter([UnavailableError("away"), UnavailableError("still away")])

        async def oldest():
            scene.elapsed += 1.0
            if (failure := next(failures, None)) is not None:
                raise failure
            swept.set()

        scene.oldest_waiting = oldest
        sweeper = scene.new_sweeper(interval=0.01)
        task = asyncio.create_task(sweeper.run())
        await asyncio.wait_for(swept.wait(), 60)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_entries_that_are_not_due_cost_little(scene):
    """One sweep skips ten thousand entries that are not due, and finds the lost execution."""
    by = scene.start + HOUR
    for start in range(0, 10_000, 500):
        names = (f"e{n}" for n in range(start, start + 500))
        await asyncio.gather(*(scene.due.put("t", name, by) for name in names))
    lost = await scene.queued()
    assert await scene.sweeper.sweep() == 1
    assert scene.jobs == [lost]


class TestBacklog:
    """The undelivered jobs of a queue."""

    async def test_it_begins_with_the_first_undelivered_job(self, site):
        """A delivered job does not count, acknowledged or not."""
        stream = site.subjects.stream(JOBS)
        subject = site.subjects.job(EXECUTIONS_QUEUE)
        backlog = QueueBacklog(site.jetstream, site.subjects, EXECUTIONS_QUEUE)
        assert await backlog.oldest() is None
        for n in range(2):
            await site.jetstream.publish(subject, advance_job("t", f"e{n}"))
        times = []
        for sequence in (1, 2):
            message = await site.jetstream.get_newest(stream, {"seq": sequence})
            assert message is not None
            times.append(message.time)
        assert await backlog.oldest() == times[0]
        config = {
            "durable_name": EXECUTIONS_QUEUE,
            "filter_subject": subject,
            "ack_policy": "explicit",
        }
        await site.jetstream.api(
            f"CONSUMER.CREATE.{stream}.{EXECUTIONS_QUEUE}.{subject}",
            {"stream_name": stream, "config": config},
        )
        assert await backlog.oldest() == times[0]
        received = await site.client.subscribe(inbox := site.client.new_inbox())
        for expected in (times[1], None):
            await site.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{EXECUTIONS_QUEUE}", b"", reply=inbox
            )
            await received.next_msg(timeout=60)
            assert await backlog.oldest() == expected
