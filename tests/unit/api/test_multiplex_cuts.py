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
from harness.generators.random_tenant_log import TenantLog
from harness.sse.client import SseParser
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.encoding import encode_commit
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import Multiplex, NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.snapshot import Snapshot
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.subjects import LogFilter

_SEEDS: Final = 240
_PARTS: Final = 8
WORKFLOWS: Final = ["a", "b"]

Said = tuple[str, str, Any]


class Page:
    """A page of a tenant that shows an execution and some more.

    Attributes:
        past: the backfilled events of the execution.
        since: where that was.
        received: the later events, with their positions.
    """

    def __init__(self, tenant: str, dialect: Multiplex) -> None:
        self.tenant = tenant
        self.dialect = dialect
        self.past: list[Said] = []
        self.since: Place | None = None
        self.received: list[tuple[Place, Said]] = []

    def take(self, client: MemoryClient, *, is_new: bool) -> None:
        """Record the events of a connection."""
        if is_new:
            self.past = []
        for event in client.events:
            assert not event.type.startswith("stream:"), event
            said = (event.type, event.json()["event"], _comparable(event.json()["data"]))
            assert event.json()["topic"] == event.type
            # The last block of the beginning has the first id.
            if is_new and event.type.startswith("execution:") and said[1] != "connected":
                self.past.append(said)
            elif not is_new and event.is_logged:
                self.received.append((place(event.id), said))
            is_new = is_new and not event.own_id
        if self.since is None and client.parser.first_id:
            self.since = place(client.parser.first_id)


def _comparable(data: Any) -> Any:
    # The previous status is not always known after a resume.
    return {key: value for key, value in data.items() if key != "previousStatus"}


class World(FaultyTenants):
    """Two tenants, and pages that show some of what they run."""

    def page(self) -> Page:
        """Return a page of a random tenant, with an execution that exists now or later."""
        execution = f"e{self.dice.randint(1, 9)}"
        topics = [
            NamedTopic(f"execution:{execution}", EXECUTION, execution),
            NamedTopic("paused", PAUSED_WORKFLOWS),
            NamedTopic("feed", TENANT_FEED),
            NamedTopic("pipeline:a", Pipelines(frozenset("a"))),
        ]
        some = [topics[0], *(topic for topic in topics[1:] if self.dice.random() < 0.6)]
        return Page(self.dice.choice(TENANTS), multiplex(some))

    def expected(self, page: Page) -> list[tuple[Place, Said]]:
        """Return all that the topics of a page show, from the beginning of the log on."""
        dialect = page.dialect
        state = dialect.begin(Snapshot(0, (), {}, frozenset(WORKFLOWS)))
        said = []
        for of, execution, sequence, events in self.log.commits:
            if of == page.tenant:
                workflow = self.log.workflows[execution]
                context = Context(execution, workflow, workflow.upper(), {"n": 1})
                (payload,) = encode_commits(events)
                frames = encode_commit(dialect, "0", context, sequence, payload, state.show)
                for event in SseParser().feed(frames.frames):
                    data = event.json()
                    block = (event.type, data["event"], _comparable(data["data"]))
                    said.append((place(event.id), block))
        return said

    def is_done(self, page: Page) -> bool:
        """Return whether a page is complete, and check the events received so far."""
        if not self.is_written or page.since is None:
            return False
        since = page.since
        expected = [each for each in self.expected(page) if each[0] > since]
        assert page.received == expected[: len(page.received)]
        return len(page.received) == len(expected)

    def check_execution(self, page: Page) -> None:
        """Check that backfill and live events of the execution equal its log."""
        (execution,) = page.dialect.backfill_executions
        topic = f"execution:{execution}"
        live = [said for _, said in page.received if said[0] == topic]
        log: list[Event] = []
        for of, name, _sequence, events in self.log.commits:
            log += events if (of, name) == (page.tenant, execution) else ()
        if page.past and page.past[0][1] == "error":
            assert page.past == [(topic, "error", page.past[0][2])]
            page.past = []
        stored = [msgspec.json.decode(msgspec.json.encode(event)) for event in log]
        assert page.past + live == [(topic, event["type"], event) for event in stored]

    async def read(self) -> None:
        """Run a page until it has received everything."""
        await asyncio.sleep(self.dice.uniform(0, 5))
        page, last_event_id = self.page(), ""
        while not self.is_done(page):
            await asyncio.sleep(self.dice.uniform(0, 0.3))
            if not self.replicas:
                continue
            client = MemoryClient()
            with contextlib.suppress(UnavailableError):
                await self._connection(client, page, last_event_id)
                if last_event_id or client.parser.last_event_id:
                    page.take(client, is_new=not last_event_id)
                    last_event_id = client.parser.last_event_id or last_event_id
        self.check_execution(page)

    async def _connection(self, client: MemoryClient, page: Page, last_event_id: str) -> None:
        if self.dice.random() < 0.4:
            client.takes_only(self.dice.randint(0, 5000))
        replica = self.dice.choice(self.replicas)
        view = View(page.dialect, LogFilter(page.tenant))
        connecting = asyncio.ensure_future(replica.follow(client, view, last_event_id))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.dice.choice([0.01, 0.5, 3, 20])):
                while not (client.ended.is_set() or client.is_cut):
                    await asyncio.sleep(0.05)
                    if self.dice.random() < 0.2 and client.connection:
                        client.resume()
        client.leave()
        await connecting

    async def run(self) -> None:
        """Let it all happen."""
        await self.store()
        await self.last(self.write(), [self.read() for _ in range(3)])


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
        client = MemoryClient()
        # More than the stream's head, less than the first page of what was before.
        client.takes_only(1000)
        dialect = multiplex([NamedTopic(f"execution:{run.execution}", EXECUTION, run.execution)])
        opening = asyncio.create_task(replica.follow(client, View(dialect, LogFilter("t"))))
        while not client.is_paused:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)
        assert len(client.events) > 10
        assert client.connection is not None
        client.connection.end("drained")
        await opening
        assert client.parser.last_event_id == ""


def test_a_client_disconnected_during_backfill_starts_again() -> None:
    """An id would make the client skip events that it did not receive."""
    run_in_virtual_time(_interrupted())
