"""Executions, callers and stream clients on a cluster under one kind of fault, and the judgement.

A round starts executions over some seconds through two API replicas. One kind of fault happens in
the middle. After it is healed, everything must settle within a bound, and then is judged:

- every accepted start exists, and has ended or waits as its workflow says
- no attempt begins twice, no step has two idempotency keys, and all logs are legal
- each client's events, over all of its connections, equal the log
- the answers of ``/readyz`` were true
"""

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from harness.campaigns.campaign import Campaign, proof_environment
from harness.faults.cluster import FaultyCluster
from harness.generators.random_workflows import ACTOR, STEP, checked
from harness.models.log_reading import Record
from harness.processes.api_process import ApiProcess
from harness.processes.installation import installation
from harness.processes.ports import free_port
from harness.processes.service import Service
from stress.callers import Callers
from stress.fault_kinds import KINDS, Arena
from stress.probes import NOTICE_S, Probes
from stress.readers import ExecutionReader, FeedReader
from tailrace_shared.execution.state import fold

_WORKFLOW: Final = "everything"
_STOPS_SERVICES: Final = frozenset({"restore-backup"})
_LATE: Final = 0.2
"""The share of executions that wait for their decision until the fault is healed."""
_WORKERS: Final = 2
_ACK_WAIT_S: Final = 3
_REPLICAS: Final = 2


class Size(NamedTuple):
    """The size of a round.

    Attributes:
        executions: number of executions to start.
        clients: number of SSE clients.
        feeds: the share of clients that read the tenant's feed.
        seconds: the time over which executions start.
        bound: the time within which services must be ready, a start must be accepted while a
            majority works, and everything must settle after healing, in seconds.
        slack: how much later than promised ``/readyz`` may change on this machine, in seconds.
    """

    executions: int
    clients: int
    feeds: float
    seconds: float
    bound: float
    slack: float


@contextlib.asynccontextmanager
async def arena_of(folder: Path, source: Random, size: Size) -> AsyncIterator[Arena]:
    """Start a cluster with two API replicas and two workers. Needs a sandbox."""
    # A worker of a slow machine may renew a job late, and must not lose it by that.
    ack_wait = _ACK_WAIT_S + size.slack / 8
    (folder / "deaths").mkdir(parents=True)
    with proof_environment(folder), FaultyCluster(folder / "nats") as cluster:
        async with installation(cluster, folder) as site:
            services: dict[str, Service] = {}
            try:
                for number in range(_REPLICAS):
                    services[f"api {number}"] = _api(cluster, folder)
                for number in range(_WORKERS):
                    services[f"worker {number}"] = _worker(cluster, folder, number, ack_wait)
                await asyncio.gather(
                    *(asyncio.to_thread(service.start) for service in services.values())
                )
                yield Arena(cluster, site, services, source, NOTICE_S + size.slack)
            finally:
                for service in services.values():
                    service.kill()


def _api(cluster: FaultyCluster, folder: Path) -> Service:
    fast = {"heartbeat": "500ms", "retry": "100ms", "log_level": "warning"}
    return ApiProcess(cluster.url, folder, nats_replicas=str(cluster.replicas), **fast)


def _worker(cluster: FaultyCluster, folder: Path, number: int, ack_wait: float) -> Service:
    settings = {
        "nats_replicas": str(cluster.replicas),
        "nodes": "harness.campaigns.proof_nodes",
        "ack_wait": f"{ack_wait}s",
        "max_crashes": "1000",
        "sweep_interval": "2s",
        "log_level": "info",
        "metrics_port": str(free_port()),
    }
    environment = {f"TAILRACE_{key.upper()}": value for key, value in settings.items()}
    log = folder / f"worker-{number}.log"
    return Service("tailrace_worker", {"NATS_URL": cluster.url, **environment}, log)


def _port(service: Service) -> int:
    if isinstance(service, ApiProcess):
        return service.port
    return int(service._environment["TAILRACE_METRICS_PORT"])


class Round:
    """One round in an arena: a load, a fault, and the judgement.

    Args:
        arena: where it happens.
        kind: the kind of fault, a key of ``KINDS``.
        size: the size.
        number: a number that no other round in this arena has.
    """

    def __init__(self, arena: Arena, kind: str, size: Size, number: int) -> None:
        self._arena = arena
        self._kind = kind
        self._size = size
        self._source = Random(arena.source.random())
        self._tenant = f"round-{number}"
        folder = Path(arena.site._folder)
        self._campaign = Campaign(arena.site, folder, self._source, self._tenant)
        self._replicas = {
            name: service.port
            for name, service in arena.services.items()
            if isinstance(service, ApiProcess)
        }
        self._ports = list(self._replicas.values())
        self._callers = Callers(self._replicas, self._tenant, self._source)
        self._probes = Probes({name: _port(it) for name, it in arena.services.items()}, size.slack)
        self._is_over = False
        self._late: list[str] = []
        self._readers: list[ExecutionReader] = []
        self._feeds = [
            FeedReader(self._ports, self._tenant, self._source)
            for _ in range(int(size.clients * size.feeds))
        ]

    async def run(self) -> str:
        """Run the round; return a summary.

        Raises:
            AssertionError: something was wrong.
        """
        await self._campaign.store_children()
        await self._campaign.store(_everything())
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probes.run())
            clients = [
                tasks.create_task(self._follow_some())
                for _ in range(self._size.clients - len(self._feeds))
            ]
            clients += [tasks.create_task(feed.read(self._ended)) for feed in self._feeds]
            load = tasks.create_task(self._load())
            began, healed = await self._inject()
            await self._probes.all_ready(self._size.bound)
            ready = time.monotonic()
            await self._bounded(load, "the callers")
            assert not self._callers.problems, "\n".join(self._callers.problems)
            await self._check_waiting()
            await asyncio.gather(*(self._callers.decide(late, "wait") for late in self._late))
            records = await self._campaign.settled(self._size.bound)
            settled = time.monotonic()
            self._is_over = True
            for client in clients:
                await self._bounded(client, "the clients")
            probing.cancel()
        await self._judge(records, (began, healed))
        await self._callers.close()
        return self._summary(records, ready - healed, settled - healed)

    def _ended(self) -> bool:
        return self._is_over

    async def _bounded(self, task: "asyncio.Task[None]", who: str) -> None:
        done, _ = await asyncio.wait([task], timeout=self._size.bound)
        assert done, f"{who} are not done {self._size.bound:.0f} s after the fault was healed"

    async def _inject(self) -> tuple[float, float]:
        await asyncio.sleep(self._size.seconds * 0.3)
        began = time.monotonic()
        self._arena.outages.clear()
        await KINDS[self._kind](self._arena)
        return began, time.monotonic()

    async def _load(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._size.executions):
                tasks.create_task(self._one())
                pause = self._size.seconds / self._size.executions
                await asyncio.sleep(self._source.uniform(0, 2 * pause))

    async def _one(self) -> None:
        is_late = self._source.random() < _LATE
        slow = round(self._source.uniform(0.2, 3), 2)
        execution = await self._callers.start(_WORKFLOW, {"slow": slow})
        self._campaign.started.append(execution)
        if is_late:
            self._late.append(execution)
        else:
            await self._callers.decide(execution, "wait")

    async def _follow_some(self) -> None:
        """Follow one execution after another to its end, each once."""
        followed: set[str] = set()
        while not self._is_over:
            if not (fresh := set(self._campaign.started[-10:]) - followed):
                await asyncio.sleep(0.1)
                continue
            execution = self._source.choice(sorted(fresh))
            followed.add(execution)
            reader = ExecutionReader(self._ports, execution, self._tenant, self._source)
            self._readers.append(reader)
            await reader.read()

    async def _check_waiting(self) -> None:
        """Wait until both replicas list exactly the executions that wait."""
        deadline = time.monotonic() + self._size.bound
        for replica in self._replicas:
            while (found := await self._callers.waiting(replica)) != set(self._late):
                late = set(self._late)
                wrong = f"lists {found - late}, and not {late - found}"
                assert time.monotonic() < deadline, f"{replica} {wrong}"
                await asyncio.sleep(0.2)

    async def _judge(self, records: dict[str, Record], faults: tuple[float, float]) -> None:
        problems = [*self._probes.untrue(faults, self._arena.outages)]
        problems += self._probes.ready_without_success(self._callers.outcomes)
        problems += self._long_stalls()
        epoch = (await self._arena.site.log.edge()).epoch
        for reader in self._readers:
            problems += reader.wrong(records[reader.execution], epoch)
        for feed in self._feeds:
            problems += await feed.wrong(self._size.bound)
        problems += self._unsuccessful(records.values())
        if self._kind not in _STOPS_SERVICES:
            # A job may be lost and sent again, but no worker that lives begins it twice.
            problems += self._campaign.repeated_effects(records)
        for name, service in self._arena.services.items():
            process = service._process
            if process is None or process.poll() is not None:
                problems.append(f"{name} has ended")
        assert not problems, "\n".join(problems[:40])
        await self._campaign.check(records)

    def _long_stalls(self) -> list[str]:
        """Return the starts that waited too long although a majority of the nodes worked."""
        if self._arena.outages or self._kind in _STOPS_SERVICES:
            return []
        longest = max(self._callers.stalls)
        return [f"a start waited {longest:.1f} s"] if longest > self._size.bound else []

    def _unsuccessful(self, records: Iterable[Record]) -> list[str]:
        problems = []
        for record in records:
            state = fold(record.events)
            # The children that fail are those of other campaigns.
            if state.status != "completed":
                problems.append(f"{state.execution_id} is {state.status}: {state.error}")
            if self._kind == "healthy":
                problems += [
                    f"{state.execution_id}: {step.node_id} took {step.attempt} attempts"
                    for step in state.steps.values()
                    if step.attempt > 1
                ]
        return problems

    def _summary(self, records: dict[str, Record], ready: float, settled: float) -> str:
        begins = [
            record.commits[1].time - record.commits[0].time
            for execution, record in records.items()
            if execution in set(self._campaign.started)
        ]
        lags = [lag for reader in self._readers for lag in reader.lags(records[reader.execution])]
        attempts = Counter(
            step.attempt
            for record in records.values()
            for step in fold(record.events).steps.values()
        )
        again = sum(count for attempt, count in attempts.items() if attempt > 1)
        events = sum(len(reader.received) for reader in self._readers)
        return (
            f"{self._kind}: {len(records)} executions, {len(self._readers)} streams, "
            f"{events} events; ready {ready:.1f} s and settled {settled:.1f} s after healing; "
            f"longest stall: start {_longest(self._callers.stalls)}, "
            f"begin {_longest(begins)}, stream {_longest(lags)}; "
            f"{again} steps tried again; not ready for {dict(self._probes.longest_unready())}"
        )


def _longest(durations: Sequence[float]) -> str:
    return f"{max(durations, default=0.0):.1f} s"


def _everything() -> Any:
    """A workflow with actors, a slow local step, an await, a timer, maps, a child and `finally`."""
    actor = {"type": ACTOR, "with": {"seconds": 0.02}}
    nodes = {
        "slow": {"type": STEP, "with": {"seconds": "${input.slow}"}, "stage": "slow"},
        "a": {**actor, "stage": "actors"},
        "b": {**actor, "needs": ["a"]},
        "c": {**actor, "needs": ["b"]},
        "wait": {"type": "await", "with": {"reason": "approval"}},
        # Actor steps that begin when the decision arrives.
        "d": {**actor, "needs": ["wait"]},
        "e": {**actor, "needs": ["wait"]},
        "timer": {"type": "delay", "with": {"duration": "2500ms"}},
        "local": {
            "type": "map",
            "with": {"for_each": "[0, 0, 0, 0]", "do": {"type": STEP}},
        },
        "remote": {
            "type": "map",
            "needs": ["a"],
            "with": {"for_each": "[0, 0, 0]", "do": {"type": ACTOR}},
        },
        "child": {"type": "workflow", "with": {"id": "child"}, "needs": ["a"]},
    }
    ends = {"type": "transform", "needs": sorted(nodes), "with": {"value": 1}}
    after = {"tidy": actor, "free": {"type": STEP, "needs": ["tidy"]}}
    groups = {"finally": {"nodes": after}}
    return checked({"id": _WORKFLOW, "nodes": {**nodes, "last": ends}, **groups})


async def run_rounds(
    folder: Path, kinds: Sequence[str], seed: int, size: Size
) -> AsyncGenerator[str, None]:
    """Run one round of each kind in one arena; yields their summaries. Needs a sandbox.

    Raises:
        AssertionError: a round failed; those after it have not run.
    """
    async with arena_of(folder, Random(seed), size) as arena:
        for number, kind in enumerate(kinds):
            yield await Round(arena, kind, size, number).run()


def problems_of(error: BaseException) -> Iterator[str]:
    """Yield the messages of an error and of all errors in its groups."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from problems_of(member)
    elif isinstance(error, AssertionError):
        yield str(error)
    else:
        yield "".join(traceback.format_exception(error))
