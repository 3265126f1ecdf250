"""How the hub judges answers about the log: older leaders, lost commits, deleted executions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from harness.fakes.memory_client import MemoryClient
from harness.fakes.memory_hub import MemoryHub, memory_hub
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators import hand_written_log as written
from harness.sse.client import places
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import ExecutionNotFoundError, UnavailableError
from tailrace_shared.execution.commit_status import WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import HORIZONS
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter

ONE: Final = View(EXECUTION, LogFilter("t", "e"))
FEED: Final = View(TENANT_FEED, LogFilter("t"))
PIPELINES: Final = View(Pipelines(frozenset({"w"})), LogFilter("t"))
# Longer than a read is repeated that may have been answered by an older leader.
_LONG_S: Final = 5.0


def run(scenario: Callable[[MemoryHub], Awaitable[None]], replicas: int, **changes: Any) -> None:
    """Run a scenario on a hub and a log with some replicas, in virtual time."""

    async def main() -> None:
        nats = MemoryNats()
        nats.replicas = replicas
        async with memory_hub(nats, **changes) as site:
            await scenario(site)

    run_in_virtual_time(main())


def commit(site: MemoryHub, *events: Event, execution: str = "e", tenant: str = "t") -> int:
    """Store a commit; return its sequence."""
    events = events or (written.step_log("n", "x"),)
    return site.nats.append(tenant, execution, next(encode_commits(events)), {WORKFLOW: "w"})


def sequences(client: MemoryClient) -> list[int]:
    """Return the sequences of the events that a client has received."""
    return [sequence for _, sequence, _ in places(client.events)]


def event_id(site: MemoryHub, sequence: int) -> str:
    """Return the id of the first event of a commit."""
    return f"{site.hub.runtime.epoch}-{sequence}-0"


async def follow(site: MemoryHub, view: View, sequence: int) -> MemoryClient:
    """Resume a stream after a commit."""
    client = MemoryClient()
    await site.follow(client, view, event_id(site, sequence))
    await asyncio.sleep(0.5)
    return client


async def delete(site: MemoryHub, execution: str, last: int, tenant: str = "t") -> None:
    """Delete an execution as the retention does."""
    await HorizonStore(Bucket(site.nats, HORIZONS)).raise_to(tenant, last)
    await site.log.delete(tenant, execution, last)


def sequence_of(client: MemoryClient) -> int:
    """Return the sequence of a client's last id."""
    return int(client.parser.last_event_id.split("-")[1])


def reset_of(client: MemoryClient) -> Any:
    """Return the data of the reset that a stream began with, or None."""
    return next((each.json() for each in client.events if each.type == "stream:reset"), None)


class TestOlderLeader:
    """During a partition, an older leader answers for some seconds."""

    def test_live_streams_stay_as_they_are(self) -> None:
        """The reconcile finds an older end of the log; no stream ends."""

        async def scenario(site: MemoryHub) -> None:
            commit(site)
            client = await site.open()
            await asyncio.sleep(1)
            site.nats.stale_at = site.nats.last_sequence
            commit(site)
            site.hub.request_reconcile()
            await asyncio.sleep(3 * _LONG_S)
            site.nats.stale_at = None
            commit(site)
            await asyncio.sleep(_LONG_S)
            assert sequences(client) == [1, 2, 3]
            assert not client.ended.is_set()
            assert not site.hub.counts.closed

        run(scenario, 3)

    @pytest.mark.parametrize("view", [ONE, FEED, PIPELINES])
    def test_an_id_that_it_does_not_know_is_asked_for_again(self, view: View) -> None:
        """Another replica served the id; this process has not seen that part of the log."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("e", "w"))
            site.nats.stale_at = site.nats.last_sequence
            seen = commit(site)
            resumed = asyncio.ensure_future(follow(site, view, seen))
            await asyncio.sleep(1)
            assert not resumed.done()
            site.nats.stale_at = None
            client = await resumed
            assert reset_of(client) is None
            commit(site, written.completed("e"))
            await asyncio.sleep(_LONG_S)
            assert set(sequences(client)) == {seen + 1}

        run(scenario, 3)

    @pytest.mark.parametrize("view", [ONE, FEED, PIPELINES])
    def test_a_client_retries_later_if_it_stays_unknown(self, view: View) -> None:
        """The client keeps its id and gets the rest when the partition has healed."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("e", "w"))
            site.nats.stale_at = site.nats.last_sequence
            seen = commit(site)
            with pytest.raises(UnavailableError):
                await follow(site, view, seen)
            site.nats.stale_at = None
            assert reset_of(await follow(site, view, seen)) is None

        run(scenario, 3)

    def test_an_execution_that_it_does_not_know_is_not_missing(self) -> None:
        """A 404 would make a browser give up."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, execution="other")
            site.nats.stale_at = site.nats.last_sequence
            first = commit(site)
            with pytest.raises(UnavailableError):
                await site.open()
            site.nats.stale_at = None
            client = await site.open()
            await asyncio.sleep(1)
            assert sequences(client) == [first]
            with pytest.raises(ExecutionNotFoundError):
                await site.open("unknown")

        run(scenario, 3)

    def test_a_snapshot_is_not_taken_from_it(self) -> None:
        """The indexes may be newer; the stream begins when the real leader answers."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("e", "w"))
            site.nats.stale_at = site.nats.last_sequence
            newest = commit(site, written.completed("e"))
            client = MemoryClient()
            following = asyncio.ensure_future(site.follow(client, PIPELINES))
            await asyncio.sleep(_LONG_S)
            assert client.events == []
            site.nats.stale_at = None
            await following
            assert client.parser.last_event_id == event_id(site, newest)

        run(scenario, 3)

    def test_the_end_of_a_tenants_log_is_not_taken_from_it(self) -> None:
        """Of three answers of two leaders, the older one gave that in the middle."""

        async def scenario(site: MemoryHub) -> None:
            seen = commit(site, written.queued("e", "w"))
            site.nats.stale_reads_at, site.nats.silent = seen, 1
            missed = commit(site, written.completed("e"))
            commit(site, tenant="u")
            following = asyncio.ensure_future(follow(site, FEED, seen))
            await asyncio.sleep(1)
            site.nats.stale_reads_at = None
            client = await following
            await asyncio.sleep(_LONG_S)
            assert set(sequences(client)) == {missed}

        run(scenario, 3)

    def test_a_snapshot_is_not_older_than_what_the_process_has_seen(self) -> None:
        """The older leader answers only for the position of the snapshot."""

        async def scenario(site: MemoryHub) -> None:
            older = commit(site, written.queued("e", "w"))
            newest = commit(site, written.completed("e"))
            await site.follow(MemoryClient(), FEED)
            site.nats.stale_reads_at = older
            client = MemoryClient()
            following = asyncio.ensure_future(site.follow(client, PIPELINES))
            await asyncio.sleep(1)
            assert client.events == []
            site.nats.stale_reads_at = None
            await following
            assert client.parser.last_event_id == event_id(site, newest)

        run(scenario, 3)

    def test_a_leader_that_all_replicas_follow_is_believed_at_once(self) -> None:
        """A healthy cluster costs no time; a server that is down costs the first stream some."""

        async def scenario(site: MemoryHub) -> None:
            took = []
            for tenant, silent in (("t", 0), ("u", 1)):
                seen = commit(site, tenant=tenant)
                commit(site, tenant="other")
                site.nats.silent = silent
                begun = asyncio.get_running_loop().time()
                view = View(TENANT_FEED, LogFilter(tenant))
                await site.follow(MemoryClient(), view, event_id(site, seen))
                took.append(asyncio.get_running_loop().time() - begun)
            assert took[0] < 1 <= took[1] < 3

        run(scenario, 3)


class TestLoss:
    """The log went back."""

    @pytest.mark.parametrize("replicas", [1, 3])
    @pytest.mark.parametrize("view", [ONE, FEED])
    def test_a_lost_end_is_reported(self, view: View, replicas: int) -> None:
        """Streams that have shown it end; their clients get a reset, and what is there."""

        async def scenario(site: MemoryHub) -> None:
            kept = commit(site, written.queued("e", "w"))
            client = MemoryClient()
            await site.follow(client, view)
            await asyncio.sleep(1)
            lost = [commit(site) for _ in range(3)]
            await asyncio.sleep(1)
            site.nats.lose(kept)
            site.hub.request_reconcile()
            await asyncio.sleep(_LONG_S)
            assert client.ended.is_set()
            assert site.hub.counts.closed == {"restored": 1}
            client = await follow(site, view, lost[-1])
            is_whole = view is ONE
            assert reset_of(client) == {
                "reason": "restored",
                "from": event_id(site, kept) if is_whole else None,
            }
            new = commit(site, written.completed("e"))
            await asyncio.sleep(1)
            assert set(sequences(client)) == ({kept, new} if is_whole else {new})

        run(scenario, replicas)

    def test_streams_of_remaining_commits_stay(self) -> None:
        """Only streams that have shown lost commits end."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("e", "w"))
            kept = commit(site, written.queued("f", "w"), execution="f")
            client = await site.open("f")
            await site.open("e")
            await asyncio.sleep(1)
            commit(site)
            await asyncio.sleep(1)
            site.nats.lose(kept)
            site.hub.request_reconcile()
            await asyncio.sleep(1)
            assert site.hub.counts.closed == {"restored": 1}
            new = commit(site, execution="f")
            await asyncio.sleep(1)
            assert sequences(client) == [kept, new]

        run(scenario, 1)

    def test_a_restored_log_is_noticed_by_its_first_commit(self) -> None:
        """Live sequences that go back request a reconcile, long before the interval."""

        async def scenario(site: MemoryHub) -> None:
            kept = commit(site, written.queued("e", "w"))
            client = MemoryClient()
            await site.follow(client, FEED)
            await asyncio.sleep(1)
            for _ in range(3):
                commit(site)
            await asyncio.sleep(1)
            site.nats.lose(kept)
            commit(site)
            await asyncio.sleep(1)
            assert client.ended.is_set()

        run(scenario, 1, heartbeat=600)

    def test_a_lost_execution_resets_once(self) -> None:
        """Nothing is left of it; the next attempt gets a 404."""

        async def scenario(site: MemoryHub) -> None:
            kept = commit(site, execution="other")
            lost = [commit(site) for _ in range(2)][-1]
            site.nats.lose(kept)
            site.hub.request_reconcile()
            await asyncio.sleep(1)
            client = await follow(site, ONE, lost)
            assert reset_of(client) == {"reason": "restored", "from": None}
            assert client.parser.last_event_id == event_id(site, kept)
            with pytest.raises(ExecutionNotFoundError):
                await follow(site, ONE, kept)

        run(scenario, 1)


class TestDeletion:
    """Ended executions are deleted one by one."""

    @pytest.mark.parametrize("view", [FEED, PIPELINES])
    def test_an_id_before_the_horizon_is_reset(self, view: View) -> None:
        """Something after it is deleted, though the log still holds older commits."""

        async def scenario(site: MemoryHub) -> None:
            early = commit(site, written.queued("long", "w"), execution="long")
            commit(site, written.queued("e", "w"))
            ended = commit(site, written.completed("e"))
            late = commit(site, written.step_log("n", "x"), execution="long")
            await delete(site, "e", ended)
            client = await follow(site, view, early)
            assert reset_of(client) == {"reason": "expired", "from": None}
            assert sequence_of(client) == late
            assert reset_of(await follow(site, view, ended)) is None
            assert reset_of(await follow(site, view, late)) is None

        run(scenario, 3)

    def test_a_ring_that_holds_everything_serves_an_older_id(self) -> None:
        """Another client of the feed has kept the topic alive."""

        async def scenario(site: MemoryHub) -> None:
            early = commit(site, written.queued("long", "w"), execution="long")
            await site.follow(MemoryClient(), FEED)
            await asyncio.sleep(1)
            first = commit(site, written.queued("e", "w"))
            ended = commit(site, written.completed("e"))
            await asyncio.sleep(1)
            await delete(site, "e", ended)
            client = await follow(site, FEED, early)
            assert reset_of(client) is None
            assert set(sequences(client)) <= {first, ended}
            assert ended in sequences(client)

        run(scenario, 1)

    def test_other_tenants_deletions_are_no_loss(self) -> None:
        """The log may begin after the id, and the tenant has lost nothing."""

        async def scenario(site: MemoryHub) -> None:
            ended = commit(site, written.completed("e"))
            others = {
                name: commit(site, written.completed(name), execution=name, tenant="u")
                for name in ("a", "b", "c")
            }
            new = commit(site, written.completed("f"), execution="f")
            await delete(site, "e", ended)
            for name, last in others.items():
                await delete(site, name, last, "u")
            assert (await site.log.edge()).first_sequence == new
            client = await follow(site, FEED, ended)
            assert reset_of(client) is None
            assert set(sequences(client)) == {new}

        run(scenario, 1)

    @pytest.mark.parametrize("view", [FEED, PIPELINES])
    def test_a_deletion_during_the_replay_is_reported(self, view: View) -> None:
        """The id was valid when the client came; the pages after it are not complete."""

        async def scenario(site: MemoryHub) -> None:
            early = commit(site, written.queued("long", "w"), execution="long")
            ended = commit(site, written.completed("e"))
            client = MemoryClient()
            client.takes_only(0)
            following = asyncio.ensure_future(site.follow(client, view, event_id(site, early)))
            await asyncio.sleep(1)
            await delete(site, "e", ended)
            client.resume()
            await following
            assert reset_of(client) == {"reason": "expired", "from": None}

        run(scenario, 1)

    def test_an_id_of_a_deleted_execution_has_expired(self) -> None:
        """The client learns it once; without an id, or with an invalid one, there is a 404."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("long", "w"), execution="long")
            seen = commit(site, written.queued("e", "w"))
            ended = commit(site, written.completed("e"))
            last = commit(site, execution="long")
            await delete(site, "e", ended)
            client = await follow(site, ONE, seen)
            assert reset_of(client) == {"reason": "expired", "from": None}
            assert client.parser.last_event_id == event_id(site, last)
            for text in (event_id(site, last), "", "nonsense"):
                with pytest.raises(ExecutionNotFoundError):
                    await site.open("e", text)
            # The id of a deleted execution says nothing about another one.
            client = await follow(site, View(EXECUTION, LogFilter("t", "long")), seen)
            assert reset_of(client) == {"reason": "expired", "from": event_id(site, 1)}

        run(scenario, 3)

    def test_a_topic_does_not_wait_for_what_was_deleted(self) -> None:
        """Its live commit was lost, and its execution deleted before the topic had read it."""

        async def scenario(site: MemoryHub) -> None:
            commit(site, written.queued("long", "w"), execution="long")
            client = MemoryClient()
            await site.follow(client, FEED)
            await asyncio.sleep(1)
            site.nats.loses = lambda: True
            ended = commit(site, written.completed("e"))
            site.nats.loses, site.nats.lag = (lambda: False), (lambda: 2)
            commit(site, tenant="u")
            await asyncio.sleep(0.5)
            await delete(site, "e", ended)
            site.nats.lag = lambda: 0
            await asyncio.sleep(_LONG_S)
            assert site.hub.counts.closed == {"lagged": 1}

        run(scenario, 1)


async def _newest_of(site: MemoryHub, is_first_deleted: bool) -> dict[str, int]:
    """Ask how far an execution reaches, through a commit that no replica shows."""
    commit(site, written.queued("e"), execution="e")
    last = commit(site, written.completed("e"), execution="e")
    seen = commit(site, execution="other")
    newest = Commit(seen, b"", "", "other")
    if is_first_deleted:
        await delete(site, "other", seen)
    else:
        site.nats.stale_at = last - 1
    return await site.hub.history.newest_commits.of("t", ["e"], newest)


def test_an_older_leader_does_not_say_how_far_an_execution_reaches() -> None:
    """It lacks the newest commits, so a stream would miss them."""

    async def scenario(site: MemoryHub) -> None:
        with pytest.raises(UnavailableError):
            await _newest_of(site, is_first_deleted=False)

    run(scenario, 3)


def test_the_leader_says_how_far_an_execution_reaches() -> None:
    """Also if the commit that shows how far a replica is has been deleted."""

    async def scenario(site: MemoryHub) -> None:
        assert await _newest_of(site, is_first_deleted=True) == {"e": 2}

    run(scenario, 3)


def test_an_execution_that_was_just_deleted_is_reset() -> None:
    """Cached answers from before its deletion do not hide that it existed."""

    async def scenario(site: MemoryHub) -> None:
        ended = commit(site, written.queued("e"), execution="e")
        commit(site, execution="other")
        await site.hub.history.edges.read()
        await site.hub.history.replay.horizon("t")
        await delete(site, "e", ended)
        start = await site.connect(MemoryClient(), "e", event_id(site, ended))
        assert start.is_gone

    run(scenario, 1)
