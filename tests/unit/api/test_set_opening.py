"""The opening of several topics, its positions, and a change of the topics."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import MemoryHub, run_on_hub
from harness.generators import hand_written_log as written
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.history.set_resume import resume_set
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.views.opening_position import OpeningPosition
from tailrace_api.fanout.views.view import View
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.position import StreamPosition
from tailrace_shared.subjects import LogFilter

FEED = NamedTopic("feed", TENANT_FEED)
PAUSED = NamedTopic("paused", PAUSED_WORKFLOWS)


def _execution(name: str) -> NamedTopic:
    return NamedTopic(f"execution:{name}", EXECUTION, name)


def _commit(site: MemoryHub, execution: str, *events: Any, tenant: str = "t") -> int:
    events = events or (written.step_log("n", "x"),)
    return site.nats.append(tenant, execution, next(encode_commits(events)))


async def _open(site: MemoryHub, *topics: NamedTopic, **place: Any) -> MemoryClient:
    client, view = MemoryClient(), View(multiplex(topics), LogFilter("t"))
    start = await resume_set(site.hub.history, view, place.pop("last_event_id", ""), **place)
    await client.connect(site.hub, view, start)
    await asyncio.sleep(0.3)
    return client


def _said(client: MemoryClient) -> list[tuple[str, str]]:
    return [(event.type, event.json()["event"]) for event in client.events]


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**5),
    st.integers(0, 99),
    st.none() | st.tuples(st.integers(0, 10**9), st.integers(0, 10**5)),
)
def test_positions_of_an_opening_survive_their_text(
    sequence: int, index: int, opened: int, inside: tuple[int, int] | None
) -> None:
    """Clients send them back as they are."""
    position = OpeningPosition(StreamPosition("1f", sequence, index), opened, inside)
    assert OpeningPosition.parse(str(position)) == position
    assert StreamPosition.parse(str(position)) is None


@pytest.mark.parametrize("text", ["", "1f-1-2", "~1", "1f-1-2~", "1f-1-2~x", "1f-1-2~1.2", "x~1"])
def test_other_texts_are_no_positions_of_an_opening(text: str) -> None:
    """A client may send anything."""
    assert OpeningPosition.parse(text) is None


def test_topics_change_without_losing_the_place() -> None:
    """Those that the client had go on after its id, and the others begin with a snapshot."""

    async def scenario(site: MemoryHub) -> None:
        for name in "ef":
            _commit(site, name, written.queued(name), written.started(name))
        before = await _open(site, _execution("e"), FEED)
        seen = before.parser.last_event_id
        before.leave()
        _commit(site, "e")
        _commit(site, "f")
        topics = [_execution("e"), _execution("f"), FEED, PAUSED]
        after = await _open(site, *topics, since=seen, since_topics=["execution:e", "feed", "gone"])
        _commit(site, "e")
        await asyncio.sleep(0.3)
        assert _said(after) == [
            ("feed", "message"),
            ("execution:e", "step:log"),
            ("execution:f", "execution:queued"),
            ("execution:f", "execution:started"),
            ("execution:f", "step:log"),
            ("paused", "paused.initial"),
            ("execution:e", "step:log"),
        ]
        again = await _open(
            site,
            *topics,
            since=seen,
            since_topics=["execution:e"],
            last_event_id=after.parser.last_event_id,
        )
        assert _said(again) == [("feed", "message")]

    run_on_hub(scenario)


def test_a_place_that_is_lost_opens_all_topics() -> None:
    """The client is notified first."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, "e", written.queued("e"))
        for place in ({"since": "nonsense"}, {"last_event_id": "1-1-1~0.1.5"}):
            client = await _open(site, _execution("e"), PAUSED, **place)
            assert [event.type for event in client.events] == [
                "stream:reset",
                "execution:e",
                "paused",
            ]

    run_on_hub(scenario)


def test_many_sets_cost_no_reads_while_nothing_is_lost() -> None:
    """Beyond their openings, however many other tenants commit."""

    async def scenario(site: MemoryHub) -> None:
        names = [f"e{number}" for number in range(30)]
        for name in names:
            _commit(site, name, written.queued(name))
        clients = [
            await _open(site, _execution(name), _execution(names[number - 1]), FEED)
            for number, name in enumerate(names)
        ]
        reads = site.nats.reads
        for name in names:
            _commit(site, "other", tenant="u")
            _commit(site, name, written.step_progress("n", 50))
        await asyncio.sleep(1)
        # The first event of each execution was seen by no stream of this process before.
        assert site.nats.reads - reads <= len(names)
        assert site.hub.counts.repairs == 0
        for client in clients:
            assert [name for _, name in _said(client)].count("step:progress") == 2
            assert [topic for topic, _ in _said(client)].count("feed") == 1 + len(names)

    run_on_hub(scenario, heartbeat=1000.0)


def test_sets_that_resume_together_read_the_log_once() -> None:
    """After a deployment, each at a place of its own."""

    async def scenario(site: MemoryHub) -> None:
        names = [f"e{number}" for number in range(20)]
        places = {}
        for name in names:
            _commit(site, name, written.queued(name))
        for name in names:
            places[name] = _commit(site, name)
        last = {name: _commit(site, name, written.step_progress("n", 1)) for name in names}
        reads = site.nats.reads
        epoch = site.hub.runtime.epoch
        clients = await asyncio.gather(
            *(
                _open(site, _execution(name), last_event_id=f"{epoch}-{places[name]}-500000")
                for name in names
            )
        )
        assert site.nats.reads - reads < len(names) / 2
        for name, client in zip(names, clients, strict=True):
            (event,) = client.events
            assert event.id == f"{epoch}-{last[name]}-500000"

    run_on_hub(scenario)


class _Broken(Dialect):
    """A dialect with a bug."""

    name = "broken"

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Fail as no input may make it."""
        raise ZeroDivisionError(context, event, stored)


def test_a_topic_that_fails_ends_only_its_own_streams() -> None:
    """Other topics and other tenants get the commit."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, "e", written.queued("e"))
        broken = await _open(site, NamedTopic("broken", _Broken()), FEED)
        feed = await _open(site, FEED)
        view = View(TENANT_FEED, LogFilter("u"))
        other = await MemoryClient.open(
            site.hub, view, await resume_tenant(site.hub.history, view, "")
        )
        for tenant in "tu":
            _commit(site, f"f{tenant}", written.queued("f"), written.started("f"), tenant=tenant)
        await asyncio.sleep(1)
        assert broken.ended.is_set()
        assert site.hub.counts.closed == {"failed": 1}
        assert [event.json()["event"] for event in feed.events] == ["message", "progress"]
        assert [event.type for event in other.events] == ["message", "progress"]

    run_on_hub(scenario)


def test_executions_open_although_the_newest_one_was_deleted() -> None:
    """The tenant has not committed anything since."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, "e", written.queued("e"))
        ended = _commit(site, "f", written.queued("f"), written.completed("f"))
        first = await _open(site, FEED)
        await site.log.delete("t", "f", ended)
        client = await _open(site, _execution("e"))
        await asyncio.sleep(10)
        assert _said(client) == [("execution:e", "execution:queued")]
        assert not first.ended.is_set()

    run_on_hub(scenario)
