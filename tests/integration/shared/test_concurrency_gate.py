"""The concurrency gate: queues, slots, and crashes between its steps."""

import asyncio
import contextlib
import random

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.commands.concurrency_gate import ConcurrencyGate, _group
from tailrace_shared.execution import events as ev
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.fenced_append import VERSION
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.topology import CONCURRENCY, LINES
from tailrace_shared.stores.fifo_queue import FifoQueue
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("log")}), 1)


class TestQueue:
    """FIFO queues."""

    @pytest.fixture
    def queue(self, site):
        return FifoQueue(site.jetstream, site.subjects)

    async def test_the_head_is_the_execution_that_joined_first(self, queue):
        """Joining again keeps the place; queues are independent."""
        assert await queue.first("l") is None
        for execution in ("a", "b", "c", "a"):
            await queue.join("l", "t", execution)
        await queue.join("m", "u", "x")
        order = []
        while (first := await queue.first("l")) is not None:
            order.append(first)
            await queue.leave("l", *first)
        assert order == [("t", "a"), ("t", "b"), ("t", "c")]
        assert await queue.first("m") == ("u", "x")

    async def test_an_execution_that_left_joins_at_the_end(self, site, queue):
        """Leaving is idempotent, and leaves nothing behind."""
        for execution in ("a", "b"):
            await queue.join("l", "t", execution)
        assert [await queue.leave("l", "t", "a") for _ in range(2)] == [True, False]
        await queue.join("l", "t", "a")
        assert await queue.first("l") == ("t", "b")
        await queue.leave("l", "t", "b")
        await queue.leave("l", "t", "a")
        assert await site.count(site.subjects.stream(LINES)) == 0


class Fleet:
    """Executions at a gate, and the jobs that were published for them."""

    def __init__(self, site):
        self.site = site
        self.jobs: asyncio.Queue[str] = asyncio.Queue()
        self.gate = self.another_gate(site.jetstream)

    def another_gate(self, jetstream):
        """Return the gate of another worker."""
        return ConcurrencyGate(
            Stores.over(jetstream, self.site.subjects), JobCallback(self.advance)
        )

    async def advance(self, tenant, execution):
        """Publish a job."""
        assert tenant == "t"
        await self.jobs.put(execution)

    async def create(self, *executions):
        """Create executions."""
        for execution in executions:
            await self.site.log.create("t", execution, WORKFLOW, None)

    async def end(self, execution):
        """Append the end of an execution."""
        end = ev.ExecutionCancelled(ev.Cancelled(execution, "cancelled", 1), NOW)
        await self.site.commit(execution, end)

    async def enter(self, execution, limit=1, gate=None, **options):
        """Return whether an execution is admitted."""
        entry = await (gate or self.gate).enter("t", "w", "g", limit, execution, **options)
        assert (execution in entry.holders) == entry.admitted
        return entry.admitted

    async def leave(self, execution, limit=1):
        """Release what an execution holds."""
        await self.gate.leave("t", "w", "g", limit, execution)

    async def woken(self):
        """Return the executions whose jobs were published."""
        return [self.jobs.get_nowait() for _ in range(self.jobs.qsize())]

    async def is_empty(self):
        """Return whether the gate stores nothing."""
        bucket = await self.site.count(f"KV_{self.site.subjects.stream(CONCURRENCY)}")
        return bucket + await self.site.count(self.site.subjects.stream(LINES)) == 0


@pytest.fixture
async def fleet(site):
    """Executions a to d."""
    fleet = Fleet(site)
    await fleet.create("a", "b", "c", "d")
    return fleet


async def test_no_more_than_the_limit_are_admitted(fleet):
    """The others are queued; entering again is idempotent."""
    assert await fleet.enter("a", 2)
    assert await fleet.enter("b", 2)
    assert not await fleet.enter("c", 2)
    assert await fleet.enter("a", 2)
    assert await fleet.woken() == []


async def test_groups_workflows_and_tenants_have_separate_slots(fleet):
    for tenant, workflow, group in (("t", "w", "g"), ("t", "w", "h"), ("t", "v", "g")):
        assert (await fleet.gate.enter(tenant, workflow, group, 1, "a")).admitted
    assert (await fleet.gate.enter("u", "w", "g", 1, "a")).admitted


async def test_a_released_slot_goes_to_the_head_of_the_queue(fleet):
    """It is woken, and a newcomer queues behind it."""
    assert await fleet.enter("a")
    assert not await fleet.enter("b")
    assert not await fleet.enter("c")
    await fleet.leave("a")
    assert await fleet.woken() == ["b"]
    assert not await fleet.enter("d")
    assert await fleet.woken() == ["b"]
    assert not await fleet.enter("c")
    assert await fleet.enter("b")
    await fleet.woken()
    for leaving, entering in (("b", "c"), ("c", "d")):
        await fleet.leave(leaving)
        assert await fleet.woken() == [entering]
        assert await fleet.enter(entering)
    await fleet.leave("d")
    assert await fleet.is_empty()


async def test_an_admitted_execution_wakes_the_next_while_slots_are_free(fleet):
    """Two concurrent releases need to wake only one."""
    for execution in "ab":
        assert await fleet.enter(execution, 2)
    for execution in "cd":
        assert not await fleet.enter(execution, 2)
    await fleet.gate._release(fleet_group(2), "a")
    await fleet.leave("b", 2)
    assert await fleet.woken() == ["c"]
    assert await fleet.enter("c", 2)
    assert await fleet.woken() == ["d"]
    assert await fleet.enter("d", 2)


async def test_an_execution_that_must_not_wait_is_not_queued(fleet):
    """A new run that is cancelled beyond the limit."""
    assert await fleet.enter("a")
    assert not await fleet.enter("b", waits=False)
    await fleet.leave("a")
    assert await fleet.woken() == []
    assert await fleet.is_empty()


async def test_an_execution_that_leaves_the_queue_is_not_woken(fleet):
    """It was cancelled while it waited. Leaving is idempotent."""
    for execution in "abc":
        await fleet.enter(execution)
    for _ in range(2):
        await fleet.leave("b")
    assert await fleet.woken() == []
    await fleet.leave("a")
    assert await fleet.woken() == ["c"]


async def test_a_larger_limit_admits_queued_executions(fleet):
    """The workflow was changed while they waited. A smaller limit evicts no holder."""
    for execution in "abc":
        await fleet.enter(execution)
    assert not await fleet.enter("d", 2)
    assert await fleet.woken() == ["b"]
    assert await fleet.enter("b", 2)
    assert not await fleet.enter("c", 1)
    assert await fleet.enter("a", 1)


async def test_a_holder_of_a_newer_version_keeps_its_slot(fleet):
    """This version cannot read whether it has ended."""
    await fleet.enter("a")
    subject = fleet.site.subjects.log("t", "a")
    await fleet.site.jetstream.publish(subject, b"[]", {VERSION: "99"})
    assert not await fleet.enter("b")


class TestCrashes:
    """Crashes between two steps."""

    async def test_after_a_slot_was_taken(self, fleet):
        """Entering again leaves the queue and wakes the next."""
        for execution in "abc":
            await fleet.enter(execution, 2 if execution != "c" else 1)
        await fleet.leave("a", 2)
        await fleet.leave("b", 2)
        await fleet.woken()
        assert (await fleet.gate._try(fleet_group(2), "c")).admitted
        await fleet.gate._queues.join(fleet_group(2).queue, "t", "d")
        assert await fleet.enter("c", 2)
        assert await fleet.woken() == ["d"]
        assert await fleet.enter("d", 2)

    async def test_after_a_slot_was_released(self, fleet):
        """Leaving again wakes the next."""
        for execution in "ab":
            await fleet.enter(execution)
        await fleet.gate._release(fleet_group(1), "a")
        assert await fleet.woken() == []
        await fleet.leave("a")
        assert await fleet.woken() == ["b"]

    async def test_after_the_queue_was_joined(self, fleet):
        """Entering again is admitted, if a slot was released meanwhile."""
        await fleet.enter("a")
        await fleet.leave("a")
        await fleet.gate._queues.join(fleet_group(1).queue, "t", "b")
        assert await fleet.enter("b")

    async def test_a_slot_released_between_the_first_read_and_the_join_is_seen(self, fleet):
        """The second read finds it."""
        await fleet.enter("a")
        join = fleet.gate._queues.join

        async def leave_and_join(*place):
            await fleet.leave("a")
            assert await fleet.woken() == []
            await join(*place)

        fleet.gate._queues.join = leave_and_join
        assert await fleet.enter("b")

    async def test_the_slot_of_an_execution_that_has_ended_is_free(self, fleet):
        """Its worker never released it."""
        await fleet.enter("a")
        assert not await fleet.enter("b")
        await fleet.end("a")
        assert await fleet.enter("b")

    async def test_an_ended_execution_at_the_head_does_not_block_the_queue(self, fleet):
        """An execution whose log has expired does not block it either."""
        for execution in ("a", "never", "b", "c"):
            await fleet.enter(execution)
        await fleet.end("b")
        await fleet.leave("a")
        assert await fleet.woken() == ["c"]
        assert await fleet.enter("c")


def fleet_group(limit):
    """Return the gate's group of these tests."""
    return _group("t", "w", "g", limit)


class Rush:
    """Executions that arrive at once, and the workers that admit them."""

    def __init__(self, fleet, rng):
        self.fleet = fleet
        self.rng = rng
        self.executions = [f"e{n:02}" for n in range(50)]
        self.inside: set[str] = set()
        self.most = 0
        self.done: list[str] = []

    async def arrive(self):
        """Publish the jobs of all executions."""
        for execution in self.executions:
            await self.fleet.create(execution)
            await self.fleet.advance("t", execution)

    async def work(self, gate):
        """Take jobs until all executions have ended."""
        while len(self.done) < len(self.executions):
            with contextlib.suppress(TimeoutError):
                execution = await asyncio.wait_for(self.fleet.jobs.get(), 0.5)
                # Like a worker that finds an execution driven elsewhere, or ended.
                if execution not in self.inside and execution not in self.done:
                    await self.drive(execution, gate)

    async def drive(self, execution, gate):
        """Enter if a slot is free, hold it a while and leave; some leave twice."""
        if not await self.fleet.enter(execution, 3, gate) or execution in self.inside:
            return
        if execution not in self.done:
            self.inside.add(execution)
            self.most = max(self.most, len(self.inside))
            for _ in range(self.rng.randrange(4)):
                await self.fleet.site.jetstream.api("INFO")
            self.inside.discard(execution)
            self.done.append(execution)
        for _ in range(self.rng.choice([1, 1, 2])):
            await gate.leave("t", "w", "g", 3, execution)


@pytest.mark.parametrize("seed", [1, 2])
async def test_under_load_the_limit_holds_and_every_execution_is_admitted(site, fleet, seed):
    """Fifty executions, four workers on two connections."""
    rush = Rush(fleet, random.Random(seed))
    other = await connect(site.settings, "other")
    gates = [fleet.gate, fleet.another_gate(JetStream(other))]
    async with asyncio.timeout(60):
        await asyncio.gather(rush.arrive(), *(rush.work(gates[n % 2]) for n in range(4)))
    assert sorted(rush.done) == rush.executions
    assert rush.most <= 3
    assert await Bucket(site.jetstream, site.subjects.stream(CONCURRENCY)).keys(">") == []
    await other.close()
