"""Streams of a tenant, in memory and in virtual time: start, resume and lazy writes."""

import asyncio
import random
from typing import Any, Final

import msgspec
import pytest

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import MemoryHub, memory_hub, run_on_hub
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators import hand_written_log as written
from harness.generators.random_tenant_log import TenantLog
from harness.sse.client import places
from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.views.view import View
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.nats.fenced_append import VERSION
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import LogFilter, Subjects
from tailrace_shared.workflow.definition import Definition, Node


class _Inputs(Dialect):
    """Every event, with the input of its execution."""

    name = "inputs"
    needs = "context"

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Show the type and the input."""
        del stored
        shown = [context.workflow_id, context.workflow_name, context.input]
        return (Block(event.type, msgspec.json.encode(shown)),)


_NOW: Final = "2024-01-15T10:30:00.000000Z"

INPUTS = View(_Inputs(), LogFilter("t"))


def _commit(
    site: MemoryHub, *events: Event, execution: str = "e", tenant: str = "t", **headers: str
) -> int:
    events = events or (written.step_log("n", "x"),)
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.nats.append(tenant, execution, next(encode_commits(events)), renamed)


async def _soon() -> None:
    """Let everything happen that needs no time to speak of."""
    await asyncio.sleep(0.3)


async def _open(site: MemoryHub, view: View, last_event_id: str = "") -> MemoryClient:
    client = MemoryClient()
    await site.follow(client, view, last_event_id)
    await _soon()
    return client


def _sequences(client: MemoryClient) -> list[int]:
    return [sequence for _, sequence, _ in places(client.events)]


def test_a_new_client_begins_now_and_knows_where_that_is() -> None:
    """Before anything has happened, and after."""

    async def scenario(site: MemoryHub) -> None:
        early = await _open(site, INPUTS)
        assert early.parser.last_event_id == f"{site.hub.runtime.epoch}-0-0"
        last = _commit(site, written.queued("e"), written.started("e"))
        await _soon()
        late = await _open(site, INPUTS)
        assert late.parser.last_event_id == f"{site.hub.runtime.epoch}-{last}-1"
        assert (late.events, _sequences(early)) == ([], [last, last])
        _commit(site)
        await _soon()
        assert (_sequences(late), _sequences(early)) == ([last + 1], [last, last, last + 1])

    run_on_hub(scenario)


def test_a_tenant_without_a_log_begins_where_all_logs_end() -> None:
    """It misses none of its own events while other tenants write."""

    async def scenario(site: MemoryHub) -> None:
        for _ in range(10):
            _commit(site, tenant="other")
        client = await _open(site, INPUTS)
        assert client.parser.last_event_id == f"{site.hub.runtime.epoch}-10-0"
        client.leave()
        await site.settled(0, 0, 0)
        _commit(site, tenant="other")
        mine = _commit(site, written.queued("e"))
        again = await _open(site, INPUTS, client.parser.last_event_id)
        assert _sequences(again) == [mine]

    run_on_hub(scenario)


def test_a_tenant_without_a_log_has_a_snapshot_while_others_write() -> None:
    """The end of their logs is not one of its own commits."""

    async def scenario(site: MemoryHub) -> None:
        view = View(Pipelines(frozenset({"a"})), LogFilter("t"))
        client = MemoryClient()
        connecting = asyncio.ensure_future(site.follow(client, view))
        for _ in range(1000):
            _commit(site, tenant="other")
            await asyncio.sleep(0.001)
            if client.parser.last_event_id:
                break
        else:
            pytest.fail("there is no snapshot as long as they write")
        await connecting
        assert [event.type for event in client.events] == ["batch_update", "error"]
        assert client.parser.last_event_id

    run_on_hub(scenario)


@pytest.mark.parametrize("is_alive", [False, True])
def test_any_position_in_the_log_can_be_resumed(*, is_alive: bool) -> None:
    """The tenant of the commit there and its number of events make no difference."""

    async def scenario(site: MemoryHub) -> None:
        for number in range(20):
            tenant = "t" if number % 2 else "other"
            _commit(site, written.queued("e"), written.started("e"), tenant=tenant)
        watching = await _open(site, INPUTS) if is_alive else None
        for sequence in range(1, 21):
            for index in (0, 1, 7):
                client = await _open(site, INPUTS, f"{site.hub.runtime.epoch}-{sequence}-{index}")
                rest = [(own, i) for own in range(sequence, 21) if own % 2 == 0 for i in (0, 1)]
                expected = [place for place in rest if place > (sequence, index)]
                assert [place[1:] for place in places(client.events)] == expected
                client.leave()
        assert watching is None or not watching.ended.is_set()

    run_on_hub(scenario)


@pytest.mark.parametrize(
    ("last_event_id", "reason"),
    [("{epoch}-99-0", "restored"), ("nonsense", "unknown"), ("123-1-0", "recreated")],
)
def test_an_invalid_id_resets_the_stream(last_event_id: str, reason: str) -> None:
    """The client gets a snapshot if the dialect has one, and all later events."""

    async def scenario(site: MemoryHub) -> None:
        last = _commit(site, written.queued("e", "a"), Tailrace_Workflow="a")
        view = View(Pipelines(frozenset({"a"})), LogFilter("t"))
        client = await _open(site, view, last_event_id.format(epoch=site.hub.runtime.epoch))
        kinds = [event.type for event in client.events]
        assert kinds[0] == "stream:reset"
        assert kinds[1] in ("batch_update", "error")
        assert client.events[0].json() == {"reason": reason, "from": None}
        assert client.parser.last_event_id == f"{site.hub.runtime.epoch}-{last}-0"
        assert site.hub.counts.resets == 1

    run_on_hub(scenario)


def test_expired_positions_reset_the_stream() -> None:
    """A client at the end of a completely expired log has missed nothing."""

    async def scenario(site: MemoryHub) -> None:
        for number in range(10):
            _commit(site, written.queued(f"e{number}"), execution=f"e{number}")
        site.nats.expire(5)
        client = await _open(site, INPUTS, f"{site.hub.runtime.epoch}-3-0")
        assert client.events[0].json() == {"reason": "expired", "from": None}
        client = await _open(site, INPUTS, f"{site.hub.runtime.epoch}-6-0")
        assert _sequences(client) == [7, 8, 9, 10]

    run_on_hub(scenario)


def test_who_came_before_anything_had_happened_has_missed_nothing() -> None:
    """On whichever replica it goes on, as long as the first commit is there."""

    async def scenario(site: MemoryHub) -> None:
        nowhere = f"{site.hub.runtime.epoch}-0-0"
        first = _commit(site, written.queued("e"))
        client = await _open(site, INPUTS, nowhere)
        assert _sequences(client) == [first]
        site.nats.expire(first)
        _commit(site, written.queued("f"), execution="f")
        client = await _open(site, INPUTS, nowhere)
        assert client.events[0].json() == {"reason": "expired", "from": None}

    run_on_hub(scenario)


def test_an_empty_log_delays_no_stream() -> None:
    """A tenant without a log goes on from an earlier place at once."""

    async def scenario(site: MemoryHub) -> None:
        for _ in range(10):
            _commit(site, tenant="other")
        await _open(site, INPUTS)
        began = asyncio.get_running_loop().time()
        client = MemoryClient()
        await site.follow(client, INPUTS, f"{site.hub.runtime.epoch}-5-0")
        assert asyncio.get_running_loop().time() - began < 0.25  # in virtual time
        mine = _commit(site, written.queued("e"))
        await _soon()
        assert _sequences(client) == [mine]

    run_on_hub(scenario)


@pytest.mark.parametrize("milliseconds", range(0, 40, 2))
def test_a_resume_from_an_earlier_position_affects_no_other_client(milliseconds: int) -> None:
    """The state of a topic goes its own way while what was before is found out for a client."""

    async def scenario(site: MemoryHub) -> None:
        await WorkflowStore(site.nats, Subjects()).put("t", Definition("a", {"n": Node("log")}))
        view = View(Pipelines(frozenset({"a"})), LogFilter("t"))
        _commit(site, tenant="other")
        early = await _open(site, view)
        place = early.parser.first_id
        early.leave()
        await site.settled(0, 0, 0)
        await LiveIndex(site.nats, Subjects()).put("t", "a", "e")
        _commit(site, written.queued("e", "a"))
        first, again = await _open(site, view), MemoryClient()
        not_final = asyncio.ensure_future(site.follow(again, view, place))
        await asyncio.sleep(milliseconds / 1000)
        _commit(site, written.completed("e"))
        await not_final
        await _soon()
        late = await _open(site, view)
        for client in (first, again):
            assert client.events[-1].json()["status"] == "completed"
        assert [event.json()["status"] for event in again.events] == ["active", "completed"]
        assert late.events[0].json()["updates"] == [{"pipelineId": "a", "status": "completed"}]

    run_on_hub(scenario)


def test_a_cumulative_stream_resets_after_too_many_missed_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cumulative dialect would have to read all of it."""
    monkeypatch.setattr("tailrace_api.fanout.history.replay_cumulative.MAX_COMMITS", 50)

    async def scenario(site: MemoryHub) -> None:
        view = View(Pipelines(frozenset({"a"})), LogFilter("t"))
        for number in range(60):
            _commit(site, written.queued(f"e{number}", "a"), execution=f"e{number}")
        client = await _open(site, view, f"{site.hub.runtime.epoch}-1-0")
        assert client.events[0].json() == {"reason": "expired", "from": None}
        assert client.parser.last_event_id == f"{site.hub.runtime.epoch}-60-0"

    run_on_hub(scenario)


@pytest.mark.parametrize("wraps", [False, True])
def test_a_pipeline_stored_later_exists_for_later_clients(wraps: bool) -> None:
    """Concurrent clients share one lookup; an existing pipeline needs none."""
    pipelines = Pipelines(frozenset({"a", "b"}))
    view = View(multiplex([NamedTopic("x", pipelines)]) if wraps else pipelines, LogFilter("t"))

    def blocks(client: MemoryClient) -> list[Any]:
        shown = [event.json() for event in client.events]
        return [each["data"] if wraps else each for each in shown]

    async def scenario(site: MemoryHub) -> None:
        early = await _open(site, view)
        assert [each.get("pipelineId") for each in blocks(early)] == [None, "a", "b"]
        await WorkflowStore(site.nats, Subjects()).put("t", Definition("a", {"n": Node("log")}))
        reads = site.hub.counts.reads
        clients = [MemoryClient() for _ in range(50)]
        await asyncio.gather(*(site.follow(client, view) for client in clients))
        assert site.hub.counts.reads <= reads + 2
        for client in clients:
            batch, error = blocks(client)
            assert batch["updates"] == [{"pipelineId": "a", "status": "idle"}]
            assert error["pipelineId"] == "b"
        _commit(site, written.queued("e", "a"))
        await _soon()
        for client in (early, clients[0]):
            update = blocks(client)[-1]
            assert (update["pipelineId"], update["status"]) == ("a", "active")
        await WorkflowStore(site.nats, Subjects()).put("t", Definition("b", {"n": Node("log")}))
        assert len(blocks(await _open(site, view))) == 1
        reads = site.hub.counts.reads
        await _open(site, view)
        assert site.hub.counts.reads == reads

    run_on_hub(scenario)


def test_an_execution_that_is_met_in_its_middle_is_looked_up() -> None:
    """Once, and those that begin before one's eyes not at all."""

    async def scenario(site: MemoryHub) -> None:
        for name in ("old", "young"):
            if name == "old":
                _commit(site, written.queued(name, "flow", run_input=[1]), execution=name)
        client = await _open(site, INPUTS)
        before = site.nats.reads
        _commit(site, execution="old")
        await _soon()
        looked = site.nats.reads - before
        _commit(site, written.queued("young", "flow", run_input=[2]), execution="young")
        for _ in range(5):
            _commit(site, execution="old")
            _commit(site, execution="young")
        await _soon()
        assert looked <= 2
        assert site.nats.reads - before == looked
        shown = [(event.type, event.json()) for event in client.events]
        assert shown[0] == ("step:log", ["flow", "flow", [1]])
        assert shown[1] == ("execution:queued", ["flow", "flow", [2]])
        assert len(shown) == 12

    run_on_hub(scenario)


def test_an_execution_whose_beginning_has_expired_is_shown_in_part() -> None:
    """The data of its later commits is shown."""

    async def scenario(site: MemoryHub) -> None:
        _commit(site, written.queued("e", "flow"))
        _commit(site, Tailrace_Workflow="flow")
        site.nats.expire(1)
        client = await _open(site, INPUTS, f"{site.hub.runtime.epoch}-1-0")
        client.events.clear()
        _commit(site, Tailrace_Workflow="flow")
        await _soon()
        assert [event.json() for event in client.events] == [["flow", "flow", None]]

    run_on_hub(scenario)


def test_contexts_stay_within_their_bounds() -> None:
    """Those used last are kept; the others are read again."""

    async def scenario() -> None:
        nats = MemoryNats()
        async with memory_hub(nats) as site:
            contexts = Contexts(site.log, 20_000)
            for number in range(100):
                name, run_input = f"e{number}", "x" * (number % 10 * 100)
                _commit(site, written.queued(name, "flow", run_input=run_input), execution=name)
            found = await contexts.of("t", [f"e{number}" for number in range(100)])
            assert {len(found[f"e{n}"].input) for n in range(100)} == set(range(0, 1000, 100))
            assert 5 < len(contexts) < 40
            gone = next(f"e{n}" for n in range(100) if contexts.known("t", f"e{n}") is None)
            reads = nats.reads
            for _ in range(3):
                assert (await contexts.of("t", [gone]))[gone].workflow_id == "flow"
            assert nats.reads == reads + 1

    run_in_virtual_time(scenario())


def test_large_and_sensitive_inputs_are_not_repeated() -> None:
    """A context is shown to all clients, with each event."""
    queued = written.queued("e", "flow", run_input={"card": "4000", "po": 1})
    queued.data.sensitive = ["/card"]
    contexts = Contexts(None, 2**20)  # type: ignore[arg-type]
    context = contexts.learn("t", "e", next(encode_commits([queued])))
    assert context is not None
    assert context.input == {"card": "***", "po": 1}
    large = written.queued("e", "flow", run_input="x" * 20_000)
    context = contexts.learn("t", "e", next(encode_commits([large])))
    assert context is not None
    assert context.input is None


def test_commits_of_newer_versions_are_passed_over_by_who_would_interpret_them() -> None:
    """Live as well as from history; who shows what is stored shows them, and knows the end."""

    async def scenario(site: MemoryHub) -> None:
        newer = {VERSION.replace("-", "_"): "99"}
        _commit(site, written.queued("e", "flow"))
        all_of_it, one = await _open(site, INPUTS), await site.open("e")
        _commit(site, written.step_log("n", "x"), **newer)
        _commit(site)
        await _soon()
        late = await _open(site, INPUTS, f"{site.hub.runtime.epoch}-1-0")
        assert _sequences(all_of_it) == _sequences(late) == [3]
        assert _sequences(one) == [1, 2, 3]
        _commit(site, written.completed("e"), **newer)
        await _soon()
        assert one.ended.is_set()
        assert not all_of_it.ended.is_set()

    run_on_hub(scenario)


def test_each_topic_handles_newer_versions_as_in_its_own_stream() -> None:
    """This holds for live events, history and snapshots."""

    async def scenario(site: MemoryHub) -> None:
        newer = {VERSION.replace("-", "_"): "99"}
        await WorkflowStore(site.nats, Subjects()).put("t", Definition("a", {"n": Node("log")}))
        topics = [
            NamedTopic("execution:e", EXECUTION, "e"),
            NamedTopic("feed", TENANT_FEED),
            NamedTopic("pipeline:a", Pipelines(frozenset({"a"}))),
        ]
        view = View(multiplex(topics), LogFilter("t"))
        _commit(site, written.queued("e", "a"))
        _commit(site, written.started("e"), **newer)
        client = await _open(site, view)
        _commit(site, written.step_log("n", "x"), **newer)
        _commit(site, written.completed("e"), **newer)
        await _soon()
        assert [(event.type, event.json()["event"]) for event in client.events] == [
            ("feed", "message"),
            ("execution:e", "execution:queued"),
            ("execution:e", "execution:started"),
            ("pipeline:a", "batch_update"),
            ("execution:e", "step:log"),
            ("execution:e", "execution:completed"),
            ("pipeline:a", "status_update"),
        ]

    run_on_hub(scenario)


@pytest.mark.parametrize(
    "strange",
    [
        b'{"type":"step:progress","data":{"node_id":"n","percent":"many"},"timestamp":""}',
        b'{"type":"step:failed","data":{"node_id":"n","attempt":1,"error":"no"},"timestamp":"?"}',
        b'{"type":"execution:paused","data":{"message":"\xff"},"timestamp":""}',
        b'{"type":7}',
    ],
)
def test_an_illegible_event_affects_no_other(strange: bytes) -> None:
    """Others of its commit, of other topics, and later ones are shown."""

    async def scenario(site: MemoryHub) -> None:
        topics = [
            NamedTopic("feed", TENANT_FEED),
            NamedTopic("paused", PAUSED_WORKFLOWS),
            NamedTopic("pipeline:a", Pipelines(frozenset({"a"}))),
        ]
        await LiveIndex(site.nats, Subjects()).put("t", "a", "e")
        _commit(site, written.queued("e", "a"))
        view = View(multiplex(topics), LogFilter("t"))
        client = await _open(site, view)
        alone = await _open(site, View(TENANT_FEED, LogFilter("t")))
        count = len(client.events)
        (before,) = encode_commits([written.started("e"), written.step_started("n")])
        wait = ev.StepWait("n", "await", "waiting", None, "signal", reason="approval")
        paused = ev.Paused("e", "paused", "approval", waiting=["n"])
        (after,) = encode_commits([ev.StepWaiting(wait, _NOW), ev.ExecutionPaused(paused, _NOW)])
        site.nats.append("t", "e", before[:-1] + b"," + strange + b"," + after[1:])
        _commit(site, written.completed("e"))
        await _soon()
        late = await _open(site, view, client.events[count - 1].id)
        kinds = [(event.type, event.json()["event"]) for event in client.events[count:]]
        assert ("feed", "progress") in kinds
        assert ("paused", "workflow.paused") in kinds
        assert [kind for topic, kind in kinds if topic == "pipeline:a"] == ["status_update"] * 2
        assert [event.data for event in late.events[1:]] == [
            event.data for event in client.events[count:]
        ]
        assert len(alone.events) == 3
        assert not client.ended.is_set()
        assert not alone.ended.is_set()

    run_on_hub(scenario)


@pytest.mark.parametrize("value", [b'"\xff"', b"[" * 9000 + b"]" * 9000])
def test_an_illegible_input_or_end_does_not_stop_a_topic(value: bytes) -> None:
    """It stops neither contexts nor snapshots."""

    async def scenario(site: MemoryHub) -> None:
        for name in "ef":
            await LiveIndex(site.nats, Subjects()).put("t", "a", name)
        queued = next(encode_commits([written.queued("e", "a")]))
        strange = queued.replace(b'"input":null', b'"input":' + value)
        assert strange != queued
        client = await _open(site, INPUTS)
        site.nats.append("t", "e", strange, {WORKFLOW: "a", STATE: "running 0"})
        site.nats.append("t", "e", value, {WORKFLOW: "a", STATE: "completed 0"})
        _commit(site, written.queued("f", "a"), execution="f")
        await _soon()
        assert client.events[-1].json()[0] == "a"
        late = await _open(site, View(Pipelines(frozenset({"a"})), LogFilter("t")))
        assert late.events[0].json()["updates"] == [{"pipelineId": "a", "status": "active"}]
        early = View(Pipelines(frozenset({"a"})), LogFilter("t"))
        again = await _open(site, early, f"{site.hub.runtime.epoch}-1-0")
        assert "stream:reset" not in [event.type for event in again.events]
        assert not again.ended.is_set()
        assert not client.ended.is_set()

    run_on_hub(scenario)


def test_a_client_that_reads_everything_never_lags() -> None:
    """However much is committed at once, and however many topics a stream has."""

    async def scenario(site: MemoryHub) -> None:
        topics = [NamedTopic(f"pipeline:p{n}", Pipelines(frozenset({f"p{n}"}))) for n in range(31)]
        view = View(multiplex([NamedTopic("feed", TENANT_FEED), *topics]), LogFilter("t"))
        client = await _open(site, view)
        begun = written.step_started("n")
        _commit(site, written.queued("e"), written.started("e"))
        for _ in range(100):
            _commit(site, *[begun] * 5)
        await _soon()
        site.nats.loses = lambda: True
        for _ in range(500):
            _commit(site, *[begun] * 5)
        site.nats.loses = lambda: False
        last = _commit(site, written.completed("e"))
        await asyncio.sleep(5)
        assert not client.ended.is_set()
        assert client.events[-1].is_logged
        assert _sequences(client)[-1] == last

    run_on_hub(scenario)


def test_non_urgent_updates_are_delayed_and_stay_in_order() -> None:
    """They share one write; an urgent update is written at once, with all delayed ones."""

    async def scenario(site: MemoryHub) -> None:
        dice = random.Random(1)
        log = TenantLog(site.nats, dice)
        store = WorkflowStore(site.nats, Subjects())
        for name in "ab":
            await store.put("t", Definition(name, {"n": Node("log")}))
        named = frozenset({"a", "b"})
        lazy = await _open(site, View(Pipelines(named, frozenset({"a"})), LogFilter("t")))
        eager = await _open(site, View(Pipelines(named), LogFilter("t")))
        run = await log.begin("t", "b")
        await _soon()
        assert len(places(eager.events)) == 1
        assert places(lazy.events) == []
        writes = len(lazy.writes)
        log.commit(run, written.started(run.execution))
        await log.end(run, written.completed(run.execution))
        await asyncio.sleep(2)
        assert len(lazy.writes) == writes + 1
        assert places(lazy.events) == places(eager.events)
        await log.begin("t", "b")
        await log.begin("t", "a")
        await asyncio.sleep(0.05)
        assert places(lazy.events) == places(eager.events)
        assert len(places(lazy.events)) == 4

    run_on_hub(scenario, lazy_interval=2.0)


def test_hidden_commits_move_clients_on() -> None:
    """Commits without shown events move all clients on before the ring evicts them."""

    async def scenario(site: MemoryHub) -> None:
        client = await _open(site, View(Pipelines(frozenset({"a"})), LogFilter("t")))
        for _ in range(3000):
            _commit(site, **{WORKFLOW.replace("-", "_"): "b"})
            await asyncio.sleep(0.001)
        await asyncio.sleep(31)
        assert not client.ended.is_set()
        assert client.parser.last_event_id == f"{site.hub.runtime.epoch}-3000-0"

    run_on_hub(scenario, lazy_interval=2.0)


def test_a_verbatim_view_of_a_tenant_works_as_well() -> None:
    """Any dialect may show a tenant."""

    async def scenario(site: MemoryHub) -> None:
        client = await _open(site, View(EXECUTION, LogFilter("t")))
        _commit(site, written.queued("e"))
        await _soon()
        assert _sequences(client) == [1]

    run_on_hub(scenario)
