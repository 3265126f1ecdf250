"""Hundreds of seeded lifetimes of multiplexed streams in memory: every topic is complete.

Two tenants, two replicas that come and go, messages that are lost and replicas of NATS that lag;
clients that are cut anywhere and go on at another replica. What a client received of an execution,
before its stream began and since, must be the execution's log; of all other topics it must get
what they show after its snapshot, once and in order.
"""

import asyncio
import contextlib
import random
from typing import Any, Final

import msgspec
import pytest

from harness.fakes.faulty_hubs import TENANTS, FaultyTenants, Place, place, try_seeds
from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import memory_hub
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators import hand_written_log as written
from harness.generators.random_tenant_log import TAGS, TenantLog
from harness.sse.client import SseParser
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import FIRST_INDEX
from tailrace_api.dialects.encoding import encode_commit
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import STRIDE, Multiplex, NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.runs import Runs
from tailrace_api.dialects.snapshot import RunsOf, Snapshot
from tailrace_api.dialects.statistics import STATISTICS
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.views.opening_position import OpeningPosition
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.position import StreamPosition
from tailrace_shared.subjects import LogFilter

_SEEDS: Final = 240
_PARTS: Final = 8
_BUSY_SEEDS: Final = 40
_BUSY_PARTS: Final = 4
WORKFLOWS: Final = ["a", "b"]

Said = tuple[str, Any]
_BEGINNING: Final[Place] = (0, 0)

# What opens a topic; it is not in the log.
_SNAPSHOTS: Final = ("paused.initial", "batch_update", "error", "runs.initial", "stats.initial")


class Topic:
    """The state of one topic on a page.

    Attributes:
        since: the position at which the topic was opened; None while it is not.
        past: the events of its execution up to there.
        received: the later events, with their positions.
    """

    def __init__(self) -> None:
        self.since: Place | None = None
        self.past: list[Said] = []
        self.received: list[tuple[Place, Said]] = []

    def receive(self, where: Place, said: Said, *, has_begun: bool) -> None:
        """Take a later event; the first one of an execution may come before all topics are open."""
        if has_begun and self.since is None:
            self.since = _BEGINNING
        self.received.append((where, said))


class Page:
    """A page of a tenant that shows some executions and some more.

    Attributes:
        topics: what it has received, by topic.
        log: what its topics show of the log, from the beginning of the log on.
        commits: the number of commits in that.
        contexts: by execution, what its first event says.
        state: the state of its topics after these commits.
    """

    def __init__(self, tenant: str, dialect: Multiplex) -> None:
        self.log: dict[str, list[tuple[Place, Said]]] = {each.name: [] for each in dialect.topics}
        self.commits = 0
        self.state = dialect.begin(Snapshot(0, (), {}, frozenset(WORKFLOWS)))
        self.contexts: dict[str, Context] = {}
        self.tenant = tenant
        self.dialect = dialect
        self.topics = {topic.name: Topic() for topic in dialect.topics}
        self._opening: set[str] = set()

    def take(self, client: MemoryClient) -> None:
        """Record the events of a connection."""
        if client.parser.first_id:
            self._see_all_open()
        for event in client.events:
            assert not event.type.startswith("stream:"), event
            assert event.json()["topic"] == event.type
            said = (event.json()["event"], _comparable(event.json()["data"]))
            topic = self.topics[event.type]
            base, _, opening = event.id.partition("~")
            _opened, _, inside = opening.partition(".")
            if said[0] == "message" and said[1].get("type") == "connected":
                pass  # the greeting of every connection
            elif said[0] in _SNAPSHOTS and "poId" not in said[1]:
                topic.received, topic.since = [], None
                self._opening.add(event.type)
            elif event.type.startswith("execution:") and (inside or _is_edge(place(base))):
                assert event.own_id
                topic.past.append(said)
                topic.since = place(base)
            elif event.own_id:
                topic.receive(place(base), said, has_begun=event.type.startswith("execution:"))
            elif event.type.startswith("execution:"):
                raise AssertionError(f"an event without an id: {event}")
            if event.own_id:
                self._see(base)
        if client.parser.last_event_id:
            self._see(client.parser.last_event_id.partition("~")[0])

    def _see_all_open(self) -> None:
        """Note that all topics are open; executions that have shown nothing begin later."""
        for name, topic in self.topics.items():
            if name.startswith("execution:") and topic.since is None:
                topic.since = _BEGINNING

    def _see(self, base: str) -> None:
        for name in self._opening:
            self.topics[name].since = place(base)
        self._opening.clear()
        feed = self.topics.get("feed")
        if feed and feed.since is None:
            feed.since = place(base)


def _is_edge(where: Place) -> bool:
    """Return whether a position is that of a whole commit, which the end of an opening has."""
    index = where[1] - FIRST_INDEX
    return index < 0 or index % STRIDE == STRIDE - 1


def _comparable(data: Any) -> Any:
    # The previous status is not always known after a resume.
    return {key: value for key, value in data.items() if key != "previousStatus"}


def _context(first: ev.ExecutionQueued) -> Context:
    queued = first.data
    return Context(
        queued.execution_id,
        queued.workflow_id,
        queued.workflow_name,
        queued.input,
        queued.version,
        first.timestamp,
        tags=tuple(queued.tags),
    )


class World(FaultyTenants):
    """Two tenants, and pages that show some of what they run."""

    def page(self) -> Page:
        """Return a page of a random tenant, with executions that exist now or later."""
        executions = self.dice.sample(range(1, 10), self.dice.randint(1, 3))
        topics = [
            *(NamedTopic(f"execution:e{each}", EXECUTION, f"e{each}") for each in executions),
            NamedTopic("paused", PAUSED_WORKFLOWS),
            NamedTopic("feed", TENANT_FEED),
            NamedTopic("pipeline:a", Pipelines(frozenset("a"))),
            NamedTopic("pipeline:b", Pipelines(frozenset("b"))),
            NamedTopic("runs", Runs()),
            NamedTopic("runs:a", Runs(RunsOf(workflow="a"))),
            *(NamedTopic(f"tag:{tag}", Runs(RunsOf(tag=tag))) for tag in TAGS),
            NamedTopic("stats", STATISTICS),
        ]
        some = [topics[0], *(topic for topic in topics[1:] if self.dice.random() < 0.5)]
        some.sort(key=lambda topic: topic.name)
        return Page(self.dice.choice(TENANTS), multiplex(some))

    def expected(self, page: Page) -> dict[str, list[tuple[Place, Said]]]:
        """Return all that the topics of a page show, from the beginning of the log on."""
        for of, execution, sequence, events in self.log.commits[page.commits :]:
            if of == page.tenant:
                if isinstance(first := events[0], ev.ExecutionQueued):
                    page.contexts[execution] = _context(first)
                context, status = page.contexts[execution], self.log.statuses.get(sequence, "")
                (payload,) = encode_commits(events)
                frames = encode_commit(
                    page.dialect, "0", context, sequence, payload, page.state.show, status=status
                )
                for event in SseParser().feed(frames.frames):
                    data = event.json()
                    block = (data["event"], _comparable(data["data"]))
                    page.log[event.type].append((place(event.id), block))
        page.commits = len(self.log.commits)
        return page.log

    def is_done(self, page: Page) -> bool:
        """Return whether a page is complete, and check the events received so far."""
        is_done = self.is_written
        for name, expected in self.expected(page).items():
            topic = page.topics[name]
            if (since := topic.since) is None:
                is_done = False
                continue
            rest = [each for each in expected if each[0] > since]
            assert topic.received == rest[: len(topic.received)], (name, since)
            is_done = is_done and len(topic.received) == len(rest)
        return is_done

    def check_executions(self, page: Page) -> None:
        """Check that past and later events of each execution equal its log."""
        for topic in page.dialect.topics:
            if not topic.execution:
                continue
            log: list[ev.Event] = []
            for of, name, _sequence, events in self.log.commits:
                log += events if (of, name) == (page.tenant, topic.execution) else ()
            stored = [msgspec.json.decode(msgspec.json.encode(event)) for event in log]
            known = page.topics[topic.name]
            shown = known.past + [said for _, said in known.received]
            assert shown == [(event["type"], event) for event in stored]

    async def read(self) -> None:
        """Run a page until it has received everything."""
        await asyncio.sleep(self.dice.uniform(0, self.delay))
        page, last_event_id = self.page(), ""
        while not self.is_done(page):
            await asyncio.sleep(self.dice.uniform(0, self.pause))
            if not self.replicas:
                continue
            client = MemoryClient()
            with contextlib.suppress(UnavailableError):
                await self._connection(client, page, last_event_id)
                if last_event_id or client.parser.last_event_id:
                    page.take(client)
                    last_event_id = client.parser.last_event_id or last_event_id
        self.check_executions(page)

    async def _connection(self, client: MemoryClient, page: Page, last_event_id: str) -> None:
        if self.dice.random() < 0.4:
            client.takes_only(self.dice.randint(0, 5000))
        replica = self.dice.choice(self.replicas)
        view = View(page.dialect, LogFilter(page.tenant))
        connecting = asyncio.ensure_future(replica.follow(client, view, last_event_id))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.lifetime()):
                while not (client.ended.is_set() or client.is_cut):
                    await asyncio.sleep(0.05)
                    if self.dice.random() < 0.2 and client.connection:
                        client.resume()
        client.leave()
        await connecting

    async def run(self) -> None:
        """Let it all happen."""
        await self.store()
        await self.last(self.write(), [self.read() for _ in range(4)])


@pytest.mark.timeout(300)  # it is all computing, and a machine may have much else to do
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_topic_is_complete(part: int) -> None:
    """Once and in order, and the replicas give back everything."""
    seeds = range(part * _SEEDS // _PARTS, (part + 1) * _SEEDS // _PARTS)
    try_seeds(lambda seed: World(seed, WORKFLOWS).run(), seeds)


async def _interrupted() -> None:
    nats = MemoryNats()
    log = TenantLog(nats, random.Random(1))
    run = await log.begin("t", "a")
    log.commit(run, written.started(run.execution), written.step_started("n"))
    for number in range(200):
        log.commit(run, written.step_log("n", f"line {number}"))
    async with memory_hub(nats) as replica:
        topics = [
            NamedTopic(f"execution:{run.execution}", EXECUTION, run.execution),
            NamedTopic("feed", TENANT_FEED),
        ]
        page, last_event_id = Page("t", multiplex(topics)), ""
        view = View(page.dialect, LogFilter("t"))
        connections = 0
        while not last_event_id or "~" in last_event_id:
            client = MemoryClient()
            # More than the stream's head, less than the first page of what was before.
            client.takes_only(1000)
            opening = asyncio.create_task(replica.follow(client, view, last_event_id))
            while not (client.is_paused or opening.done()):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
            assert client.connection is not None
            client.connection.end("drained")
            await opening
            page.take(client)
            last_event_id = client.parser.last_event_id
            if not connections:
                # The feed has begun with the first block of the first connection.
                log.commit(run, written.step_progress("n", 50))
            connections += 1
        assert connections > 1
        client = MemoryClient()
        await replica.follow(client, view, last_event_id)
        await asyncio.sleep(0.3)
        page.take(client)
    execution, feed = page.topics[topics[0].name], page.topics["feed"]
    assert len(execution.past) + len(execution.received) == 204
    assert len(feed.received) == 1


def test_a_client_disconnected_during_the_opening_goes_on() -> None:
    """It gets no event twice, and what the other topics said meanwhile."""
    run_in_virtual_time(_interrupted())


async def _ahead_of_the_replica() -> None:
    nats = MemoryNats()
    log = TenantLog(nats, random.Random(1))
    run = await log.begin("t", "a")
    topics = multiplex([NamedTopic("paused", PAUSED_WORKFLOWS), NamedTopic("runs", Runs())])
    view = View(topics, LogFilter("t"))
    async with memory_hub(nats) as replica:
        other = MemoryClient()
        await replica.follow(other, view)
        await asyncio.sleep(1)
        # The live log of this replica has begun, and misses what the client has seen elsewhere.
        nats.loses = lambda: True
        log.commit(run, written.started(run.execution))
        log.commit(run, written.step_started("n"))
        nats.loses = lambda: False
        base = StreamPosition(replica.hub.runtime.epoch, nats.last_sequence, FIRST_INDEX)
        client = MemoryClient()
        await replica.follow(client, view, str(OpeningPosition(base, opened=1)))
        await asyncio.sleep(1)
        assert [event.json()["event"] for event in client.events] == ["runs.initial"]
        assert place(client.parser.last_event_id)[0] == nats.last_sequence
        log.commit(run, written.completed(run.execution))
        await asyncio.sleep(1)
        (shown,) = client.events[1:]
        assert place(shown.id)[0] == nats.last_sequence


def test_topics_are_opened_where_the_client_is() -> None:
    """A client that has seen more than this replica gets nothing of it again."""
    run_in_virtual_time(_ahead_of_the_replica())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(_BUSY_PARTS))
def test_every_topic_of_a_busy_tenant_is_complete(part: int) -> None:
    """Also if the streams of a replica begin and end while commits arrive."""
    seeds = range(part * _BUSY_SEEDS // _BUSY_PARTS, (part + 1) * _BUSY_SEEDS // _BUSY_PARTS)
    try_seeds(lambda seed: World(seed, WORKFLOWS, is_busy=True).run(), seeds)
