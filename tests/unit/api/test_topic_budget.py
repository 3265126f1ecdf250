"""Topics' memory, in virtual time: settings limit it for any client requests."""

import asyncio
from collections.abc import Callable

import pytest

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import MemoryHub, run_on_hub
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators import hand_written_log as written
from harness.sse.client import places
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.fanout.runtime.limits import RingBounds, StreamTimes
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.execution_topic import ExecutionTopic
from tailrace_api.fanout.topics.live_subscription import LiveCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount, MemoryBudget
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.views.view import View
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.subjects import LogFilter


def _commit(site: MemoryHub, *events: Event, execution: str = "e", tenant: str = "t") -> int:
    return site.nats.append(tenant, execution, next(encode_commits(events)))


async def _soon() -> None:
    """Let everything happen that needs no time to speak of."""
    await asyncio.sleep(0.3)


def _page(number: int, tenant: str = "t") -> View:
    """Return what a page shows that shows what no other does."""
    name = f"e{number}"
    topics = [
        NamedTopic(f"execution:{name}", EXECUTION, name),
        NamedTopic("paused", PAUSED_WORKFLOWS),
    ]
    return View(multiplex(topics), LogFilter(tenant))


async def _open(site: MemoryHub, view: View, last_event_id: str = "") -> MemoryClient:
    client = MemoryClient()
    await site.follow(client, view, last_event_id)
    await _soon()
    return client


def _waiting(node: str) -> Event:
    wait = ev.StepWait(node, "await", "waiting", None, "signal", reason="x" * 500)
    return ev.StepWaiting(wait, "2024-01-15T10:30:00.000000Z")


def test_memory_is_released_once() -> None:
    """Each topic releases what it has taken; after that nothing is accounted."""
    budget = MemoryBudget(100, 60)
    account, other = MemoryAccount(budget, "t"), MemoryAccount(budget, "u")
    account.add(60)
    assert (account.refusal, other.refusal) == ("tenant_topics_full", "")
    other.add(40)
    assert other.refusal == "topics_full"
    account.close()
    account.add(-60)
    assert (budget.bytes, budget.refusal("t"), other.refusal) == (40, "", "")


def test_topics_are_refused_at_the_memory_limit() -> None:
    """Followed topics and other tenants' topics are not refused."""

    async def scenario(site: MemoryHub) -> None:
        hub = site.hub
        pages: list[MemoryClient] = []
        while not hub.refusal(_page(len(pages))):
            pages.append(await _open(site, _page(len(pages))))
        assert 3 < len(pages) < 15
        assert hub.refusal(_page(99)) == "tenant_topics_full"
        assert hub.refusal(_page(0)) == hub.refusal(_page(99, "u")) == ""
        late = await _open(site, _page(99))
        assert late.ended.is_set()
        assert late.parser.retry is not None
        assert hub.counts.refused == {"tenant_topics_full": 1}
        assert not any(page.ended.is_set() for page in pages)
        pages[0].leave()
        assert hub.refusal(_page(99)) == ""
        for page in pages:
            page.leave()
        assert hub.topics.budget.bytes == 0

    run_on_hub(scenario, tenant_topics=100_000)


def test_a_busy_process_opens_streams_of_small_tenants_only() -> None:
    """The streams that are open go on."""

    async def scenario(site: MemoryHub) -> None:
        clients = [await _open(site, _page(number)) for number in range(3)]
        clients.append(await _open(site, _page(0, "u")))
        site.hub.runtime.load.observe(site.hub.runtime.now() + 60.0, 60.0)
        assert site.hub.refusal(_page(9)) == "busy"
        assert site.hub.refusal(_page(0, "u")) == site.hub.refusal(_page(0, "v")) == ""
        assert not any(client.ended.is_set() for client in clients)

    run_on_hub(scenario)


def test_all_tenants_together_have_a_limit() -> None:
    """Of the process, beside each tenant's own."""

    async def scenario(site: MemoryHub) -> None:
        for number in range(5):
            await _open(site, _page(0, f"t{number}"))
        assert site.hub.refusal(_page(0, "t9")) == "topics_full"
        assert site.hub.refusal(_page(0, "t0")) == ""

    run_on_hub(scenario, topics=92_000)


def test_history_is_sent_even_if_the_live_end_is_refused() -> None:
    """The client comes back for the rest with the last id; one that has ended needs no room."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e"))
        _commit(site, written.queued("f"), written.completed("f"), execution="f")
        await _open(site, _page(0))
        client = await site.open()
        await _soon()
        assert client.ended.is_set()
        assert [each[1] for each in places(client.events)] == [1]
        assert client.parser.last_event_id == client.events[-1].id
        assert site.hub.counts.refused == {"tenant_topics_full": 1}
        assert len(places((await site.open("f")).events)) == 2
        await _soon()
        assert site.hub.counts.closed == {"tenant_topics_full": 1, "finished": 1}

    run_on_hub(scenario, tenant_topics=15_000)


def test_rings_evict_sent_blocks_at_the_memory_limit() -> None:
    """Fast clients lose nothing; slow ones reconnect and get the rest from the log."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e0"), execution="e0")
        views = [_page(0), View(EXECUTION, LogFilter("t", "e0"))]
        clients = [await _open(site, view) for view in views]
        slow = await _open(site, views[1])
        slow.takes_only(0)
        sequences = []
        for _ in range(40):
            sequences.append(_commit(site, written.step_log("n", "x" * 10_000), execution="e0"))
            await _soon()
            assert site.hub.topics.budget.bytes <= 150_000
        for client in clients:
            assert [each[1] for each in places(client.events)][-40:] == sequences
            assert not client.ended.is_set()
        slow.resume()
        await _soon()
        assert slow.ended.is_set()
        assert site.hub.counts.closed == {"lagged": 1}
        again = await _open(site, views[1], slow.parser.last_event_id)
        received = [*places(slow.events), *places(again.events)]
        assert [each[1] for each in received] == [1, *sequences]

    run_on_hub(scenario, tenant_topics=150_000, stall=1000.0)


def test_idle_rings_are_evicted_for_new_topics() -> None:
    """A client that has all of them misses nothing, and resumes from the ring."""

    async def scenario(site: MemoryHub) -> None:
        clients = []
        for execution in ("e0", "e1"):
            _commit(site, written.queued(execution), execution=execution)
            clients.append(await _open(site, View(EXECUTION, LogFilter("t", execution))))
            for _ in range(8):
                _commit(site, written.step_log("n", "x" * 10_000), execution=execution)
                await _soon()
        assert site.hub.topics.budget.refusal("t") == "tenant_topics_full"
        assert site.hub.refusal(_page(0)) == ""
        late = await _open(site, _page(0))
        again = await _open(
            site, View(EXECUTION, LogFilter("t", "e0")), clients[0].parser.last_event_id
        )
        last = _commit(site, written.step_log("n", "y"), execution="e0")
        await _soon()
        assert [each[1] for each in places(clients[0].events)] == [*range(1, 10), last]
        assert [each[1] for each in places(again.events)] == [last]
        assert not any(client.ended.is_set() for client in (*clients, late, again))

    run_on_hub(scenario, tenant_topics=100_000)


def test_a_client_resumes_from_an_emptied_ring() -> None:
    """It has the newest event and reconnects: nothing is repeated or missing."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e0"), execution="e0")
        first = await _open(site, _page(0))
        for _ in range(10):
            _commit(site, written.step_log("n", "x" * 10_000), execution="e0")
            await _soon()
        again = await _open(site, _page(0), first.parser.last_event_id)
        last = _commit(site, written.step_log("n", "y"), execution="e0")
        await _soon()
        assert [each[1] for each in places(again.events)] == [last]

    run_on_hub(scenario, tenant_topics=20_000)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"tenant_topics": 300_000}, "tenant_topics_full"), ({"topics": 300_000}, "topics_full")],
)
def test_a_state_that_grows_at_the_memory_limit_ends_its_streams(
    limits: dict[str, int], reason: str
) -> None:
    """Only streams of its topic end; their clients are refused until memory is free."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e0"), written.started("e0"), execution="e0")
        other = await _open(site, View(EXECUTION, LogFilter("t", "e0")))
        pages = [await _open(site, _page(number)) for number in range(5)]
        for number in range(200):
            _commit(site, _waiting(f"n{number}"), execution="e0")
            await asyncio.sleep(0.01)
            assert site.hub.topics.budget.bytes <= 310_000
        await _soon()
        ended = [page for page in pages if page.ended.is_set()]
        assert ended
        assert site.hub.counts.closed == site.hub.counts.refused == {reason: len(ended)}
        assert not other.ended.is_set()
        assert len(places(other.events)) == 202

    run_on_hub(scenario, **limits)


class _Reader:
    """A follower that reads everything, and records evicted commits that it missed."""

    def __init__(self, topic: ExecutionTopic, then: Callable[[], None]) -> None:
        self._topic = topic
        self._then = then
        self._next = 1
        self.has_missed = False

    def on_ring_ready(self) -> None:
        """Learn that the topic has a ring."""

    def serve(self) -> bool:
        """Take something; return whether there is more."""
        ring = self._topic.ring
        assert ring is not None
        if self._next > ring.edge:
            return False
        if self._next < ring.floor:
            self.has_missed = True
            return False
        self._next = ring.batch(self._next).next_sequence
        self._then()
        return self._next <= ring.edge

    def end(self, reason: str) -> None:
        """Follow no more."""
        raise AssertionError(reason)


def test_commits_during_a_sweep_are_kept_for_followers_already_served() -> None:
    """This holds even if no event of them is shown, so no follower is written to."""

    async def main() -> None:
        account = MemoryAccount(MemoryBudget(1, 1), "t")
        runtime = StreamRuntime("e", StreamTimes(15.0, 2.0, 30.0, 0.0), 2**20)
        view = View(EXECUTION, LogFilter("t"))
        topic = ExecutionTopic(view, runtime, RingBounds(99, 9999), account)
        topic.ring = Ring("e", 0, max_events=99, max_bytes=9999, account=account)
        served = 0

        def receive(sequence: int, payload: bytes) -> None:
            topic.receive(LiveCommit("e", sequence, sequence - 1, payload, 0.0))

        def then() -> None:
            nonlocal served
            served += 1
            if served == 2:
                receive(2, b"illegible")

        readers = [_Reader(topic, then) for _ in range(2)]
        topic.followers.update(readers)
        for sequence in (1, 3):
            receive(sequence, next(encode_commits([written.step_log("n", "x")])))
            await _soon()
        assert served >= 4
        assert not any(reader.has_missed for reader in readers)

    run_in_virtual_time(main())
