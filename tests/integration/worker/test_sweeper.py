"""The sweeper: whatever an execution has lost, one sweep gives it a job."""

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
"""Longer than any test takes: what was written so long ago is overdue."""


class Ground:
    """What there is to sweep, seen some time after it was written.

    Attributes:
        begun: when the test began.
        later: seconds from then to the sweep; they pass only where a test says so.
    """

    def __init__(self, site):
        self.site = site
        self.due = DueIndex(site.jetstream, site.subjects)
        self.live = LiveIndex(site.jetstream, site.subjects)
        self.jobs = []
        self.driving = set()
        self.asked = []
        self.oldest = None
        self.begun = time.time()
        self.later = HOUR
        self.sweeper = self.another_sweeper()

    def another_sweeper(self, interval=20.0):
        """Return the sweeper of another worker."""
        return Sweeper(
            Stores.over(self.site.jetstream, self.site.subjects),
            Fleet(self.is_driving, JobCallback(self.advance), self.oldest_waiting),
            Periods(interval, ack_wait=10.0),
            lambda: self.begun + self.later,
        )

    async def is_driving(self, worker, tenant, execution):
        """Answer as a worker does."""
        self.asked.append(worker)
        return (worker, tenant, execution) in self.driving

    async def advance(self, _tenant, execution):
        """Publish a job."""
        self.jobs.append(execution)

    async def oldest_waiting(self):
        """Tell since when the queue holds what nobody was given."""
        return self.oldest

    async def entries(self):
        """Return for which executions there are entries."""
        return {due.execution async for due in self.due.entries()}

    async def queued(self, by=0.0):
        """Return an execution that was created, and whose job was not published."""
        execution = new_execution_id()
        await self.due.put("t", execution, self.begun + by)
        await self.site.log.create("t", execution, WORKFLOW, None)
        return execution

    async def started(self, *events, by=0.0):
        """Return an execution that a worker has begun with."""
        execution = await self.queued(by)
        started = ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)
        await self.site.commit(execution, started, *events)
        return execution


@pytest.fixture
def ground(site):
    """Nothing yet."""
    return Ground(site)


class TestLost:
    """What is driven on, each by one sweep."""

    async def test_an_execution_whose_job_was_never_published(self, ground):
        """Its starter died in between."""
        execution = await ground.queued()
        assert await ground.sweeper.sweep() == 1
        assert ground.jobs == [execution]

    async def test_a_wait_that_has_lost_its_timer(self, ground):
        """Somebody has purged the schedule."""
        waits = ev.StepWait("n", "delay", "waiting", until=NOW)
        begun = ev.StepStarted(ev.StepBegun("n", "delay", "running", 1, NOW), NOW)
        execution = await ground.started(begun, ev.StepWaiting(waits, NOW), by=HOUR)
        assert await ground.sweeper.sweep() == 0
        ground.later += HOUR
        assert await ground.sweeper.sweep() == 1
        assert ground.jobs == [execution]
        assert ground.asked == ["worker"]

    async def test_a_command_without_a_job(self, ground):
        """Whoever drove the execution is asked, not the API, which wrote last."""
        execution = await ground.started()
        await ground.due.put("t", execution, time.time())
        await ground.site.log.request(
            "t", execution, lambda state: request_cancel(state, "c", "enough", 0.0)
        )
        assert await ground.sweeper.sweep() == 1
        assert (ground.jobs, ground.asked) == ([execution], ["worker"])

    async def test_any_number_at_once(self, ground):
        """Each of them gets one job, and the next sweep gives it time."""
        executions = {await ground.queued() for _ in range(100)}
        assert await ground.sweeper.sweep() == 100
        assert len(ground.jobs) == 100
        assert set(ground.jobs) == executions
        ground.later += 21.0
        assert await ground.sweeper.sweep() == 0
        ground.later += GRACE_S
        assert await ground.sweeper.sweep() == 100


class TestForgotten:
    """Entries that say nothing any more."""

    async def test_an_execution_that_was_never_created(self, ground):
        """It gets a minute for that."""
        await ground.due.put("t", "never", time.time())
        await ground.live.put("t", "w", "never")
        await ground.live.put("t", "w", "other")
        ground.later = CREATION_GRACE_S - 1.0
        assert await ground.sweeper.sweep() == 0
        assert await ground.entries() == {"never"}
        assert len(await ground.live.of_tenant("t")) == 2
        ground.later = HOUR
        assert await ground.sweeper.sweep() == 0
        assert (await ground.entries(), ground.jobs) == (set(), [])
        assert await ground.live.of_tenant("t") == [Live("w", "other")]

    async def test_an_execution_that_has_ended(self, ground):
        """Its worker died before all was done that its end asks for: one more job does that."""
        execution = await ground.started()
        end = ev.ExecutionCompleted(ev.Completed(execution, "completed", 1), NOW)
        await ground.site.commit(execution, end)
        assert await ground.sweeper.sweep() == 0
        assert (await ground.entries(), ground.jobs) == (set(), [execution])

    async def test_an_execution_whose_beginning_has_expired(self, ground):
        """Nobody can drive it."""
        execution = await ground.started()
        subject = ground.site.subjects.log("t", execution)
        await ground.site.jetstream.api(
            f"STREAM.PURGE.{ground.site.events}", {"filter": subject, "keep": 1}
        )
        await ground.site.commit(
            execution,
            ev.CommandRequested(ev.Command(execution, "cancel", "c"), NOW),
            writer="",
        )
        assert await ground.sweeper.sweep() == 0
        assert (await ground.entries(), ground.jobs) == (set(), [])


class TestLeftAlone:
    """What is in good order."""

    async def test_what_is_not_due(self, ground):
        """Nobody is asked for it."""
        await ground.started(by=HOUR)
        assert await ground.sweeper.sweep() == 0
        assert ground.asked == []

    async def test_what_a_worker_drives(self, ground):
        """A step may take hours without a word."""
        execution = await ground.started()
        ground.driving.add(("worker", "t", execution))
        assert await ground.sweeper.sweep() == 0
        assert (await ground.entries(), ground.asked) == ({execution}, ["worker"])

    async def test_what_was_written_a_moment_ago(self, ground):
        """Somebody is at it, or JetStream will deliver the job again."""
        execution = await ground.queued(by=-100.0)
        ground.later = 2.0
        assert await ground.sweeper.sweep() == 0
        assert await ground.entries() == {execution}

    async def test_what_may_be_in_the_queue(self, ground):
        """A long queue must not be made longer; a job that came later tells that ours is gone."""
        execution = await ground.queued()
        ground.oldest = time.time() - 1.0
        assert await ground.sweeper.sweep() == 0
        ground.later += 21.0
        ground.oldest = time.time() + GRACE_S + 1.0
        assert await ground.sweeper.sweep() == 1
        assert ground.jobs == [execution]

    async def test_what_a_newer_version_has_written(self, ground):
        """Its workers have sweepers of their own."""
        execution = await ground.queued()
        await ground.site.jetstream.publish(
            ground.site.subjects.log("t", execution), b"[]", {VERSION: "99"}
        )
        assert await ground.sweeper.sweep() == 0
        assert await ground.entries() == {execution}

    @pytest.mark.parametrize("payload", [b"no JSON", b'[{"type": "no:event"}]'])
    async def test_a_log_that_nobody_can_read(self, ground, payload):
        """The others are swept nevertheless."""
        unreadable = await ground.queued()
        subject = ground.site.subjects.log("t", unreadable)
        await ground.site.jetstream.publish(subject, payload)
        lost = await ground.queued()
        assert await ground.sweeper.sweep() == 1
        assert ground.jobs == [lost]


class TestTurns:
    """Who sweeps when."""

    async def test_of_many_workers_one_sweeps(self, ground):
        """And the next only after the interval."""
        await ground.queued()
        sweepers = [ground.another_sweeper() for _ in range(8)]
        assert sum(await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))) == 1
        await ground.queued()
        assert await sweepers[0].sweep() == 0
        ground.later += 21.0
        assert await sweepers[1].sweep() == 1

    async def test_a_wrong_clock_does_not_end_all_sweeping(self, ground):
        """Of a worker that lived an hour ahead."""
        ground.later += 3600.0
        await ground.sweeper.sweep()
        ground.later -= 3600.0
        await ground.queued()
        assert await ground.another_sweeper().sweep() == 1

    async def test_sweeping_goes_on_whatever_nats_does(self, ground):
        """The next time is another."""
        swept = asyncio.Event()
        failures = iter([UnavailableError("away"), UnavailableError("still away")])

        async def oldest():
            ground.later += 1.0
            if (failure := next(failures, None)) is not None:
                raise failure
            swept.set()

        ground.oldest_waiting = oldest
        sweeper = ground.another_sweeper(interval=0.01)
        task = asyncio.create_task(sweeper.run())
        await asyncio.wait_for(swept.wait(), 60)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_entries_in_good_order_cost_little(ground):
    """Ten thousand that are parked: one sweep reads past all of them, and finds the lost one."""
    by = ground.begun + HOUR
    for start in range(0, 10_000, 500):
        names = (f"e{n}" for n in range(start, start + 500))
        await asyncio.gather(*(ground.due.put("t", name, by) for name in names))
    lost = await ground.queued()
    assert await ground.sweeper.sweep() == 1
    assert ground.jobs == [lost]


class TestBacklog:
    """What a queue still has to hand out."""

    async def test_it_begins_with_the_first_job_that_nobody_was_given(self, site):
        """Those that were given to somebody are that one's, acknowledged or not."""
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
        given = await site.client.subscribe(inbox := site.client.new_inbox())
        for expected in (times[1], None):
            await site.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{EXECUTIONS_QUEUE}", b"", reply=inbox
            )
            await given.next_msg(timeout=60)
            assert await backlog.oldest() == expected
