"""Hubs on a NATS in memory that fail, restart and lag at random, from a seed."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from harness.fakes.memory_hub import MemoryHub, memory_hub
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators.random_tenant_log import TenantLog
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.topics.ring import Ring
from tailrace_shared.errors import UnavailableError
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Definition, Node

Place = tuple[int, int]
TENANTS = ["t", "u"]


class FaultyHubs:
    """Two replicas on a NATS that loses live messages, lags, and is unavailable at times.

    In half of the seeds the log has three replicas and is partitioned at times. Then the replicas
    are now on one side, now on the other, where an older leader answers.

    Attributes:
        dice: the source of randomness.
        replicas: the replicas that run now.
        is_written: whether the log is complete.
        inspection: the time between two inspections of the replicas, in seconds.
    """

    def __init__(self, seed: int) -> None:
        self.inspection = 0.3
        self.dice = dice = random.Random(seed)
        self.nats = MemoryNats()
        self.replicas: list[MemoryHub] = []
        loss, lag = dice.choice([0, 0.2, 0.7, 1]), dice.choice([0, 0, 1, 3])
        self.nats.loses = lambda: dice.random() < loss
        self.nats.lag = lambda: dice.randint(0, lag)
        self.nats.replicas = dice.choice([1, 3])
        self.is_written = False

    async def last(self, writer: Coroutine[Any, Any, None], readers: Iterable[Any]) -> None:
        """Run until everything is written and read; then assert that the hubs hold nothing."""
        async with asyncio.timeout(3600):
            background = [asyncio.create_task(self._replica()) for _ in range(2)]
            background.append(asyncio.create_task(self._trouble()))
            background.append(asyncio.create_task(self._inspect()))
            if self.nats.replicas > 1:
                background.append(asyncio.create_task(self._partitions()))
            async with asyncio.TaskGroup() as group:
                for each in (writer, *readers):
                    group.create_task(each)
            for replica in self.replicas:
                await replica.settled(0, 0, 0)
                assert replica.hub.counts.slow == replica.hub.runtime.slow_clients.bytes == 0
                assert len(replica.hub.runtime.wheel) == 0
                assert replica.hub.counts.gaps == 0
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            for task in background:
                if not task.cancelled() and (error := task.exception()):
                    raise error

    async def _inspect(self) -> None:
        """Check now and then what must always be true of windows and rings."""
        while not self.is_written:
            for replica in self.replicas:
                check_invariants(replica)
            await asyncio.sleep(self.inspection)

    async def _trouble(self) -> None:
        while not self.is_written:
            await asyncio.sleep(self.dice.uniform(0, 3))
            if self.dice.random() < 0.3:
                self.nats.is_connected = False
                await asyncio.sleep(self.dice.uniform(0, 2))
                self.nats.is_connected = True
                for replica in self.replicas:
                    replica.hub.request_reconcile()

    async def _partitions(self) -> None:
        while not self.is_written:
            await asyncio.sleep(self.dice.uniform(0, 3))
            last = self.nats.last_sequence
            for _ in range(self.dice.randint(1, 4)):
                self.nats.stale_at = last
                await asyncio.sleep(self.dice.choice([0.1, 1, 8]))
                self.nats.stale_at = None
                await asyncio.sleep(self.dice.uniform(0, 0.5))

    async def _replica(self) -> None:
        while True:
            with contextlib.suppress(UnavailableError):
                await self._replica_life()
            await asyncio.sleep(self.dice.uniform(0, 0.5))

    async def _replica_life(self) -> None:
        dice = self.dice
        ring = RingBounds(dice.choice([16, 4096]), dice.choice([65536, 2**22]))
        heartbeat, lazy_interval = dice.choice([0.5, 5]), dice.choice([0, 0.5])
        async with memory_hub(
            self.nats,
            heartbeat=heartbeat,
            stall=2.0,
            retry=0.1,
            ring=ring,
            lazy_interval=lazy_interval,
        ) as replica:
            self.replicas.append(replica)
            try:
                await asyncio.sleep(dice.choice([1, 5, 1000]))
            finally:
                self.replicas.remove(replica)
                for connection in tuple(replica.hub._connections):
                    if dice.random() < 0.5:
                        connection.end("drained")
                    connection.abort()


class FaultyTenants(FaultyHubs):
    """The same, with the executions of two tenants.

    Args:
        seed: of the random source.
        workflows: the ids of the workflows.
        is_busy: whether there are always new commits while clients come and go, so that what a
            replica begins and ends with its streams happens among them.

    Attributes:
        delay: the most before the first connection of a client, in seconds.
        pause: the most between two connections of a client, in seconds.
    """

    def __init__(self, seed: int, workflows: Sequence[str], *, is_busy: bool = False) -> None:
        super().__init__(seed)
        self.workflows = list(workflows)
        self.delay = 0.5 if is_busy else 5.0
        self.pause = 0.1 if is_busy else 0.3
        self.inspection = 0.01 if is_busy else 0.3
        self._is_busy = is_busy
        self.log = TenantLog(
            self.nats, self.dice, header_percent=self.dice.choice([100, 100, 60, 0])
        )

    def lifetime(self) -> float:
        """Return how long a connection lasts, in seconds."""
        is_short = self._is_busy and not self.is_written
        return self.dice.choice([0.01, 0.05, 0.3] if is_short else [0.01, 0.5, 3, 20])

    async def store(self) -> None:
        """Store the workflows."""
        store = WorkflowStore(self.nats, Subjects())
        for name in self.workflows:
            for tenant in TENANTS:
                await store.put(tenant, Definition(name, {"n": Node("log")}))

    async def write(self) -> None:
        """Write the logs, with random pauses between commits."""
        max_pause = self.dice.choice([0.01, 0.03] if self._is_busy else [0, 0.01, 0.3, 1])
        for name in self.workflows:
            for tenant in TENANTS:
                await self.log.begin(tenant, name)
        for _ in range(120 if self._is_busy else self.dice.randint(1, 40)):
            await asyncio.sleep(self.dice.uniform(0, max_pause))
            await self.log.step(TENANTS, self.workflows)
        self.is_written = True


def check_invariants(replica: MemoryHub) -> None:
    """Check that windows hold all commits of their tenant from their floor to the edge, in order.

    Rings hold some of them, because not all commits concern them.
    """
    topics = replica.hub.topics
    for tail in topics._tails.values():
        held = [commit.sequence for commit in tail.window.since(0)]
        if tail.window.floor:
            first, last = tail.window.floor, tail.edge
            assert held == replica.nats.commits_of(tail.tenant, first, last), (first, last, held)
        if tail.ready.is_set() and not tail._is_closed:
            stored = replica.nats.commits_of(tail.tenant, 1, tail.edge)
            newest = tail.newest.sequence if tail.newest else 0
            assert newest == max(stored, default=0), (newest, stored, tail.edge)
    for topic in topics.all():
        if isinstance(ring := topic.ring, Ring):
            held = [commit.sequence for commit in ring._commits[ring._start :]]
            assert held == sorted(set(held)), f"ring {held}"
            assert not held or ring.floor <= held[0], (ring.floor, held)
            assert not held or held[-1] <= ring.edge, (held, ring.edge)


def place(event_id: str) -> Place:
    """Return the sequence and the index of an event id."""
    _, sequence, index = event_id.split("-")
    return int(sequence), int(index)


def try_seeds(run: Callable[[int], Coroutine[Any, Any, None]], seeds: range) -> None:
    """Run a scenario in virtual time for each seed; a failure names its seed."""
    for seed in seeds:
        try:
            run_in_virtual_time(run(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
