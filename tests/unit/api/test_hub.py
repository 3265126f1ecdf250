"""The hub, in memory and in virtual time: the bytes, timing and cost of each connection."""

import asyncio
import errno
import math
from dataclasses import replace

import msgspec
import pytest

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import MemoryHub, run_on_hub
from harness.generators import hand_written_log as written
from harness.sse.client import places
from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.run_and_stream import RUN_AND_STREAM
from tailrace_api.fanout.history.replay import ReplayBusyError
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import DirectWriter
from tailrace_api.sse import frame
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.subjects import LogFilter


def _commit(site: MemoryHub, *events: Event, execution: str = "e", tenant: str = "t") -> int:
    events = events or (written.step_log("n", "x"),)
    return site.nats.append(tenant, execution, next(encode_commits(events)))


async def _soon() -> None:
    """Let everything happen that needs no time to speak of."""
    await asyncio.sleep(0.2)


def _live(tenant: str) -> View:
    return View(EXECUTION, LogFilter(tenant, "e"))


def _sequences(client: MemoryClient) -> list[int]:
    return [sequence for _, sequence, _ in places(client.events)]


class _DeafClient(MemoryClient):
    """Does not even take the end."""

    def end(self, wire: bytes, *, reusable: bool) -> None:
        """Take nothing."""


class _BrokenClient(MemoryClient):
    """Has a bug."""

    is_broken = False

    def write(self, wire: bytes) -> None:
        """Take something, or fail."""
        if self.is_broken:
            raise RuntimeError("a bug")
        super().write(wire)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do nothing in several slices, however long this machine takes: what is joined depends on it.

    Time is virtual in these tests, but for that of the processor.
    """
    for module in ("topics.live_subscription", "runtime.cooperative_scheduler"):
        monkeypatch.setattr(f"tailrace_api.fanout.{module}._SLICE_S", math.inf)


def test_a_batch_that_does_not_follow_the_cursor_is_a_gap() -> None:
    """Neither a predecessor that was not sent, nor a commit that was."""

    async def scenario(site: MemoryHub) -> None:
        for _ in range(3):
            _commit(site)
        await site.open()
        await _soon()
        (connection,) = site.hub._connections
        assert (connection.sequence, site.hub.counts.gaps) == (4, 0)
        following = Batch(b"", 0, 10, None, None, is_last=False, first_sequence=9, previous=3)
        connection.deliver(following)
        assert site.hub.counts.gaps == 0
        connection.deliver(replace(following, next_sequence=15, first_sequence=14, previous=12))
        assert site.hub.counts.gaps == 1
        connection.deliver(following)
        assert site.hub.counts.gaps == 2

    run_on_hub(scenario)


@pytest.mark.usefixtures("unhurried")
def test_all_connections_of_a_topic_get_the_same_bytes() -> None:
    """Encoded, framed and joined once for any number of connections."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(50)]
        await _soon()
        for _ in range(3):
            _commit(site)
        await _soon()
        assert len({id(client.writes[-1]) for client in clients}) == 1
        assert {tuple(_sequences(client)) for client in clients} == {(1, 2, 3, 4)}

    run_on_hub(scenario)


@pytest.mark.usefixtures("unhurried")
def test_commits_of_one_tick_are_one_write() -> None:
    """Each client gets them as one piece."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        client = await site.open()
        await _soon()
        before = len(client.writes)
        for _ in range(20):
            _commit(site)
        await _soon()
        assert len(client.writes) == before + 1
        assert _sequences(client) == list(range(1, 22))
        assert site.hub.counts.events == 21

    run_on_hub(scenario)


def test_ten_thousand_reconnects_cost_few_reads() -> None:
    """They reconnect with the last id, to a replica with an empty cache and to a warm one."""

    async def scenario(site: MemoryHub) -> None:
        last = [_commit(site) for _ in range(500)][-1]
        before = site.nats.reads
        clients = [MemoryClient() for _ in range(10_000)]
        ids = [f"{site.hub.runtime.epoch}-{last - number % 3}-0" for number in range(10_000)]
        await asyncio.gather(
            *(
                site.connect(client, last_event_id=last_event_id)
                for client, last_event_id in zip(clients, ids, strict=True)
            )
        )
        await _soon()
        _commit(site)
        await asyncio.sleep(1)
        assert all(_sequences(client)[-1] == last + 1 for client in clients)
        assert site.nats.reads - before < 20
        before = site.nats.reads
        again = MemoryClient()
        await site.connect(again, last_event_id=f"{site.hub.runtime.epoch}-{last}-0")
        await _soon()
        assert _sequences(again) == [last + 1]
        assert site.nats.reads == before

    run_on_hub(scenario, streams=20_000, tenant_streams=20_000)


def test_reconnects_that_come_in_turns_cost_few_reads() -> None:
    """A replica starts few requests at once, so thousands of clients come one after the other."""

    async def scenario(site: MemoryHub) -> None:
        last = [_commit(site) for _ in range(60)][-1]
        before = site.nats.reads
        clients = []
        for number in range(500):
            position = f"{site.hub.runtime.epoch}-{10 + number % 5}-0"
            clients.append(await site.open(last_event_id=position))
            await asyncio.sleep(0.005)
        await _soon()
        assert {_sequences(client)[-1] for client in clients} == {last}
        # The position and the page of each of the five ids, and how far the log reaches.
        assert site.nats.reads - before < 2 * 5 + 5

    run_on_hub(scenario)


class _Feed(Dialect):
    """All that a tenant's log holds, with heartbeats of its own."""

    name = "all"
    heartbeat_factor = 2.0
    is_regular = True

    def greet(self, part: LogFilter, milliseconds: int) -> Block:
        """Name the tenant."""
        return Block("", b'"%b at %d"' % (part.tenant.encode(), milliseconds))

    def heartbeat(self, milliseconds: int, event_id: str) -> bytes:
        """Tell the time."""
        del event_id
        return frame.event(b"%d" % milliseconds, name="heartbeat")

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Show what is stored."""
        del context
        return (Block(event.type, bytes(stored)),)


FEED = _Feed()


@pytest.mark.parametrize("loss", [False, True])
def test_a_topic_may_be_a_whole_tenant(*, loss: bool) -> None:
    """Commits of all its executions come in order, none is missed, and none ends the stream."""

    async def scenario(site: MemoryHub) -> None:
        lost = iter(range(1_000_000))
        site.nats.loses = lambda: loss and next(lost) % 3 == 0
        expected = [_commit(site, execution=f"e{number}") for number in range(5)]
        client = MemoryClient()
        view = View(FEED, LogFilter("t"))
        await client.connect(site.hub, view, Start(expected[2]))
        for number in range(60):
            end = written.completed(f"e{number % 7}")
            execution, tenant = f"e{number % 7}", "t" if number % 4 else "other"
            sequence = _commit(site, end, execution=execution, tenant=tenant)
            if tenant == "t":
                expected.append(sequence)
            await asyncio.sleep(0.01 * (number % 3))
        await asyncio.sleep(20)
        assert _sequences(client) == expected[2:]
        assert client.events[0].data.startswith('"t at ')
        assert not client.ended.is_set()
        assert len(site.nats.subscriptions) == 1

    run_on_hub(scenario)


def test_a_tenant_of_its_own_needs_no_reads_while_nothing_is_lost() -> None:
    """A commit that follows the one before in the stream has nothing in between."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        client = MemoryClient()
        await client.connect(site.hub, View(FEED, LogFilter("t")), Start(1))
        await _soon()
        before = site.nats.reads
        for number in range(20):
            _commit(site, execution=f"e{number % 3}")
            await asyncio.sleep(0.01)
        assert _sequences(client) == list(range(1, 22))
        assert site.nats.reads == before

    run_on_hub(scenario)


def test_a_paused_client_gets_nothing_and_continues_from_the_ring() -> None:
    """The fake client asserts that it gets bounded pieces, and none while it is paused."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        slow, other = await site.open(), await site.open()
        await _soon()
        slow.takes_only(0)
        for _ in range(20):
            _commit(site, written.step_log("n", "x" * 20_000))
            await asyncio.sleep(0.1)
        assert len(_sequences(other)) == 21
        assert len(_sequences(slow)) == 2
        assert site.hub.counts.slow == 1
        assert site.hub.runtime.slow_clients.bytes > 0
        reads, writes = site.nats.reads, len(slow.writes)
        slow.resume()
        await _soon()
        assert _sequences(slow) == _sequences(other)
        assert max(map(len, slow.writes[writes:])) < 100_000
        assert site.nats.reads == reads
        assert site.hub.counts.slow == site.hub.runtime.slow_clients.bytes == 0

    run_on_hub(scenario)


def test_a_client_that_the_ring_has_overtaken_must_reconnect() -> None:
    """Its stream ends gracefully, with a retry delay and its position."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        slow = await site.open()
        await _soon()
        slow.takes_only(0)
        for _ in range(40):
            _commit(site)
            await asyncio.sleep(0.01)
        slow.resume()
        await _soon()
        assert slow.ended.is_set()
        assert slow.parser.retry is not None
        assert site.hub.counts.closed == {"lagged": 1}
        again = await site.open(last_event_id=slow.parser.last_event_id)
        await _soon()
        assert _sequences(slow) + _sequences(again) == list(range(1, 42))

    run_on_hub(scenario, ring=RingBounds(16, 65536))


class _Transport(asyncio.Transport):
    """Takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it."""


def test_a_client_that_the_kernel_gives_up_is_stalled() -> None:
    """Its host has lost the network, or the kernel's timeout expires before that of the stream."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        for error in (TimeoutError(errno.ETIMEDOUT, "timed out"), ConnectionResetError(), None):
            writer = DirectWriter(_Transport(), set(), asyncio.Protocol)
            opening = site.hub.connect(View(EXECUTION, LogFilter("t", "e")), Start(), writer)
            writer.connection = opening.connection
            await opening.run()
            writer.connection_lost(error)
        assert site.hub.counts.closed == {"stalled": 1, "left": 2}

    run_on_hub(scenario)


def test_a_stalled_client_is_disconnected_after_the_timeout() -> None:
    """It is disconnected within a tick of the timeout."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        slow, other = await site.open(), await site.open()
        await _soon()
        slow.takes_only(0)
        _commit(site)
        await asyncio.sleep(4.8)
        assert site.hub.sizes[0] == 2
        await asyncio.sleep(0.4)
        assert slow.is_cut
        assert not other.is_cut
        assert site.hub.counts.closed == {"stalled": 1}
        assert site.hub.sizes[0] == 1

    run_on_hub(scenario, stall=5.0)


def test_slow_is_not_stalled() -> None:
    """A client that takes a byte now and then is kept, as long as the ring has its place."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        slow = await site.open()
        await _soon()
        slow.takes_only(0)
        _commit(site)
        for _ in range(40):
            await asyncio.sleep(1)
            slow.backlog -= 1
        assert site.hub.sizes[0] == 1
        await asyncio.sleep(11)
        assert slow.is_cut

    run_on_hub(scenario, stall=5.0)


def test_what_slow_clients_hold_in_common_is_held_once() -> None:
    """A large commit to many fast clients exceeds no limit."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(20)]
        await _soon()
        for client in clients:
            client.takes_only(0)
        _commit(site, written.step_log("n", "x" * 100_000))
        await _soon()
        assert 100_000 < site.hub.runtime.slow_clients.bytes < 110_000
        assert site.hub.counts.slow == 20
        for client in clients:
            client.resume()
        assert site.hub.runtime.slow_clients.bytes == 0

    run_on_hub(scenario, backlog=1_000_000)


def test_slow_clients_together_hold_no_more_than_is_allowed() -> None:
    """The client that exceeds the limit is disconnected and resumes; the others stay."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(20)]
        await _soon()
        for client in clients:
            # Each stops elsewhere, and so holds something else.
            client.takes_only(0)
            _commit(site, written.step_log("n", "x" * 100_000))
            await _soon()
        assert site.hub.runtime.slow_clients.bytes <= 1_000_000
        assert site.hub.counts.closed == {"overloaded": 11}
        assert [client.is_cut for client in clients] == [False] * 9 + [True] * 11

    run_on_hub(scenario, backlog=1_000_000)


def test_silence_is_filled_with_heartbeats() -> None:
    """One in each interval, never two, and none where there are events."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        client = await site.open()
        await asyncio.sleep(100)
        assert 9 <= len(client.parser.comments) <= 13
        assert set(client.parser.comments) == {"heartbeat"}
        heard = len(client.parser.comments)
        for _ in range(50):
            _commit(site)
            await asyncio.sleep(1)
        assert len(client.parser.comments) == heard

    run_on_hub(scenario, heartbeat=10.0)


def test_heartbeats_resume_when_a_slow_client_has_caught_up() -> None:
    """The deadline was the later stall timeout while the client was slow."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        client = await site.open()
        await asyncio.sleep(6)
        client.takes_only(0)
        _commit(site)
        await asyncio.sleep(30)
        assert client.is_paused
        client.resume()
        await asyncio.sleep(1)
        assert client.parser.comments == ["heartbeat"]
        assert not client.is_cut

    run_on_hub(scenario, heartbeat=10.0, stall=60.0)


def test_heartbeats_carry_the_place_when_it_has_moved_far_unseen() -> None:
    """A client that is shown nothing would otherwise resume from long ago."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e"))
        client = await site.open(dialect=RUN_AND_STREAM)
        await _soon()
        for _ in range(999):
            _commit(site, written.step_log("n", "x"))
        await asyncio.sleep(11)
        assert client.parser.positions == []
        last = _commit(site, written.step_log("n", "x"), written.step_log("n", "y"))
        await asyncio.sleep(11)
        assert client.parser.positions == [f"{site.hub.runtime.epoch}-{last}-1"]
        await asyncio.sleep(30)
        assert len(client.parser.positions) == 1

    run_on_hub(scenario, heartbeat=10.0)


class _Placed(_Feed):
    """Has heartbeats that carry the position, more often than the hub reads the log."""

    heartbeat_factor = 0.5
    heartbeat_has_id = True

    def heartbeat(self, milliseconds: int, event_id: str) -> bytes:
        """Return a heartbeat with the position."""
        return frame.event(b"%d" % milliseconds, name="heartbeat", event_id=event_id)


def test_heartbeats_do_not_move_a_client_back() -> None:
    """It comes from a replica that has received a commit which this one has lost."""

    async def scenario(site: MemoryHub) -> None:
        view = View(_Placed(), LogFilter("t"))
        _commit(site)
        await site.follow(MemoryClient(), view)
        await _soon()
        site.nats.loses = lambda: True
        last_id = f"{site.hub.runtime.epoch}-{_commit(site)}-0"
        client = MemoryClient()
        await site.follow(client, view, last_id)
        await asyncio.sleep(6)
        beats = [each.id for each in client.events if each.type == "heartbeat"]
        assert beats
        assert set(beats) == {last_id}

    run_on_hub(scenario, heartbeat=10.0)


def test_heartbeats_of_many_clients_are_spread() -> None:
    """After a broadcast all have been silent equally long."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(200)]
        _commit(site)
        await asyncio.sleep(9)
        early = sum(bool(client.parser.comments) for client in clients)
        assert 40 < early < 160

    run_on_hub(scenario, heartbeat=10.0)


def test_regular_heartbeats_come_also_while_there_are_events() -> None:
    """At the dialect's own interval, in its own words, with the time of day."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        client = MemoryClient()
        await client.connect(site.hub, View(FEED, LogFilter("t")), Start(1))
        began = site.hub.runtime.wall()
        for _ in range(100):
            await asyncio.sleep(1)
            _commit(site)
        times = [int(event.data) for event in client.events if event.type == "heartbeat"]
        assert [round(at / 1000 - began) for at in times] == [20, 40, 60, 80]
        assert client.parser.comments == []

    run_on_hub(scenario, heartbeat=10.0)


def test_a_stream_ends_when_the_token_of_its_client_expires() -> None:
    """It reports that, keeps the client's position, and counts the reason; others continue."""

    async def scenario(site: MemoryHub) -> None:
        last = _commit(site)
        client, other = MemoryClient(), await site.open()
        until = site.hub.runtime.wall() + 30
        await client.connect(site.hub, View(EXECUTION, LogFilter("t", "e")), Start(), until)
        await asyncio.sleep(29)
        assert not client.ended.is_set()
        await asyncio.sleep(2)
        assert client.ended.is_set()
        assert (client.events[-1].type, client.events[-1].data) == ("stream:auth-expired", "{}")
        assert client.parser.last_event_id == f"{site.hub.runtime.epoch}-{last}-0"
        assert client.parser.retry is not None
        assert site.hub.counts.closed == {"expired": 1}
        assert not other.ended.is_set()

    run_on_hub(scenario, age=1000.0)


def test_old_streams_end_spread_over_time() -> None:
    """A new replica gets its share of the clients that reconnect."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(200)]
        await asyncio.sleep(74)
        assert not any(client.ended.is_set() for client in clients)
        await asyncio.sleep(26)
        ended = sum(client.ended.is_set() for client in clients)
        assert 50 < ended < 150
        await asyncio.sleep(27)
        assert all(client.ended.is_set() for client in clients)
        assert all(client.parser.retry is not None for client in clients)
        assert site.hub.counts.closed == {"aged": 200}

    run_on_hub(scenario, age=100.0)


def test_limits_refuse_new_streams_and_keep_open_ones() -> None:
    """A tenant's limit, the process's, and why."""

    async def scenario(site: MemoryHub) -> None:
        hub = site.hub
        _commit(site)
        first = [await site.open() for _ in range(2)]
        assert hub.refusal(_live("t")) == "tenant_full"
        assert hub.refusal(_live("u")) == ""
        _commit(site, tenant="u")
        other = MemoryClient()
        await other.connect(hub, View(EXECUTION, LogFilter("u", "e")), Start())
        assert hub.refusal(_live("u")) == hub.refusal(_live("v")) == "full"
        first[0].leave()
        assert hub.refusal(_live("t")) == ""
        site.nats.is_connected = False
        assert hub.refusal(_live("t")) == "disconnected"
        hub.is_draining = True
        assert hub.refusal(_live("t")) == "draining"
        assert not first[1].ended.is_set()
        hub.refuse("full")
        assert hub.counts.refused == {"full": 1}

    run_on_hub(scenario, streams=3, tenant_streams=2)


def test_beyond_the_budget_of_replays_new_streams_are_refused() -> None:
    """Streams whose history is being read are served, and later ones as well."""

    async def scenario(site: MemoryHub) -> None:
        for number in range(5):
            _commit(site, execution=f"e{number}")
        opening = (site.open(f"e{number}") for number in range(5))
        opened = await asyncio.gather(*opening, return_exceptions=True)
        refused = [error for error in opened if isinstance(error, ReplayBusyError)]
        served = [client for client in opened if isinstance(client, MemoryClient)]
        assert (len(served), len(refused)) == (2, 3)
        await _soon()
        assert all(client.events for client in served)
        assert (await site.open("e4")).events

    run_on_hub(scenario, reads=2)


def test_a_drain_ends_streams_over_time_and_cuts_who_does_not_go() -> None:
    """Each with another delay; who takes nothing is cut at the end."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(3000)]
        stalled = _DeafClient()
        await site.connect(stalled)
        await _soon()
        stalled.takes_only(0)
        _commit(site)
        await _soon()
        draining = asyncio.create_task(site.hub.drain(5.0))
        await asyncio.sleep(1.0)
        ended = sum(client.ended.is_set() for client in clients)
        assert 300 < ended < 2000
        await draining
        assert all(client.ended.is_set() for client in clients)
        assert len({client.parser.retry for client in clients}) > 500
        assert stalled.is_cut
        await site.settled(0, 0, 0)
        assert site.hub.counts.closed == {"drained": 3001}
        assert len(site.hub.runtime.wheel) == 0

    run_on_hub(scenario)


def test_a_broken_connection_takes_no_other_along() -> None:
    """A bug in what is due for one is no reason to forget the others."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site)
        clients = [await site.open() for _ in range(10)]
        broken = _BrokenClient()
        await site.connect(broken)
        await _soon()
        broken.is_broken = True
        await asyncio.sleep(25)
        assert broken.is_cut
        assert all(client.parser.comments and not client.is_cut for client in clients)

    run_on_hub(scenario, heartbeat=10.0)
