"""The NATS operations that the hub uses, on the real server and on the one in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.fakes.memory_nats import MemoryNats
from harness.nats.server import NatsServer
from tailrace_api.fanout.topics.live_subscription import LiveCommit, LiveSubscription
from tailrace_shared.errors import UnavailableError
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import LIVE, topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import LogFilter, Subjects

Append = Callable[[str, str, bytes], Awaitable[int]]
ONE, ALL, OTHER, UNKNOWN = (
    LogFilter("t", "a"),
    LogFilter("t"),
    LogFilter("u", "a"),
    LogFilter("t", "unknown"),
)


class Site(NamedTuple):
    """A NATS with a writer and the readers of the hub."""

    append: Append
    log: ExecutionLog
    source: LiveSubscription
    jetstream: JetStream


@pytest.fixture(params=["real", "memory"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """Return each NATS in turn."""
    subjects = Subjects()
    if request.param == "memory":
        nats = MemoryNats()

        async def remember(tenant: str, execution: str, payload: bytes) -> int:
            return nats.append(tenant, execution, payload)

        yield Site(remember, ExecutionLog(nats, subjects), LiveSubscription(nats.client), nats)
        return
    with NatsServer(tmp_path) as server:
        settings = ApiSettings(nats_url=server.url)
        client = await connect(settings, "test")
        jetstream = JetStream(client)
        await ensure(jetstream, topology(settings))

        async def store(tenant: str, execution: str, payload: bytes) -> int:
            return await jetstream.publish(subjects.log(tenant, execution), payload)

        yield Site(store, ExecutionLog(jetstream, subjects), LiveSubscription(client), jetstream)
        await client.close()


async def test_an_empty_stream(site: Site) -> None:
    """Every read returns nothing, and no further page."""
    for part in (ONE, ALL, UNKNOWN):
        assert await site.log.page(part, 1) == ([], False)
        assert await site.log.newest(part) is None
    assert await site.log.find(1) is None
    assert await site.log.find_on_leader(1) is None
    assert await site.log.last_sequences([ONE, ALL]) == {}
    assert (await site.log.edge()).last_sequence == 0


async def test_pages(site: Site) -> None:
    """Pages of an execution and of a tenant start anywhere, and report whether more follow."""
    for number in range(100):
        tenant, execution = ("t", "ab"[number % 2]) if number % 5 else ("u", "a")
        await site.append(tenant, execution, b"%d" % number)
    for part in (ONE, ALL, OTHER, UNKNOWN):
        for start in (1, 2, 30, 99, 100, 101, 5000):
            commits, more = await site.log.page(part, start)
            wanted = [
                number for number in range(100) if number + 1 >= start and _is_in(part, number)
            ]
            assert [commit.sequence for commit in commits] == [n + 1 for n in wanted[:64]]
            assert [int(commit.payload) for commit in commits] == wanted[:64]
            assert more == (len(wanted) > 64)


def _is_in(part: LogFilter, number: int) -> bool:
    tenant, execution = ("t", "ab"[number % 2]) if number % 5 else ("u", "a")
    return tenant == part.tenant and part.execution in ("", execution)


async def test_large_commits_make_small_pages(site: Site) -> None:
    """A page holds at least one commit, and ends soon after its byte limit."""
    for _ in range(10):
        await site.append("t", "a", b"x" * 200_000)
    sequence, pages = 1, 0
    more = True
    while more:
        commits, more = await site.log.page(ONE, sequence)
        assert 1 <= len(commits) <= 3
        sequence, pages = commits[-1].sequence + 1, pages + 1
    assert sequence == 11
    assert pages >= 5


async def test_single_commits(site: Site) -> None:
    """Read the newest commit of a part of the log, and the commit at a sequence."""
    await site.append("t", "a", b"1")
    await site.append("t", "b", b"2")
    await site.append("u", "a", b"3")
    newest = [await site.log.newest(part) for part in (ONE, ALL, OTHER, UNKNOWN)]
    assert [commit and commit.sequence for commit in newest] == [1, 2, 3, None]
    assert await site.log.last_sequences([ONE, ALL, OTHER, UNKNOWN]) == {ONE: 1, ALL: 2, OTHER: 3}
    for find in (site.log.find, site.log.find_on_leader):
        found = await find(2)
        assert found is not None
        assert (found[0], found[1], found[2].payload) == ("t", "b", b"2")
        assert await find(4) is None
    edge = await site.log.edge()
    assert (edge.first_sequence, edge.last_sequence) == (1, 3)
    assert int(edge.epoch, 16) > 0


async def test_what_the_log_does_not_contain(site: Site) -> None:
    """A later commit proves that an earlier one is deleted; one answer covers a part."""
    for execution in ("a", "b", "a", "c"):
        await site.append("t", execution, b"x")
    await site.log.delete("t", "b", 2)
    await site.log.delete("t", "c", 4)
    for from_leader in (False, True):
        found = [await site.log.find_next(n, from_leader=from_leader) for n in range(1, 6)]
        assert [each and each[2].sequence for each in found] == [1, 3, 3, None, None]
    for part, has_commits in ((ONE, True), (ALL, True), (OTHER, False), (UNKNOWN, False)):
        edge = await site.log.edge(part)
        assert (edge.last_sequence, edge.has_commits) == (4, has_commits)
        assert (edge.is_sole, edge.has_quorum, edge.expires_by_age) == (True, True, False)


async def test_the_newest_commits_of_many_executions(site: Site) -> None:
    """Executions without commits are left out; a replica that lags is refused."""
    for tenant, execution in (("t", "a"), ("t", "b"), ("u", "a"), ("t", "a")):
        await site.append(tenant, execution, b"x")
    found = await site.log.last_commits("t", ["a", "b", "unknown"], 4)
    assert {name: commit.sequence for name, commit in found.items()} == {"a": 4, "b": 2}
    # No execution of this tenant has a commit after sequence 3.
    found = await site.log.last_commits("u", ["a"], 4)
    assert {name: commit.sequence for name, commit in found.items()} == {"a": 3}
    with pytest.raises(UnavailableError):
        await site.log.last_commits("t", ["a"], 5)
    with pytest.raises(UnavailableError):
        await site.log.last_commits("t", ["unknown"], 4)
    first = await site.log.first("t", "a")
    assert first is not None
    assert (first.sequence, await site.log.first("t", "unknown")) == (1, None)


async def test_buckets(site: Site) -> None:
    """Put, compare-and-set, list and purge keys; of two writers one wins."""
    bucket = Bucket(site.jetstream, LIVE)
    assert await bucket.read_all("t.*.*") == []
    revisions = [await bucket.put(key, b"1") for key in ("t.a.1", "t.b.2", "u.a.3", "t.a.1")]
    assert revisions == sorted(set(revisions))
    assert sorted(await bucket.keys("t.*.*")) == ["t.a.1", "t.b.2"]
    assert await bucket.keys("t.b.*") == ["t.b.2"]
    assert await bucket.replace("t.a.1", b"2", revisions[0]) is None
    assert await bucket.replace("t.a.1", b"2", revisions[3]) is not None
    assert await bucket.replace("t.c.4", b"1", 0) is not None
    found = {entry.key: entry.value for entry in await bucket.read_all("t.*.*")}
    assert found == {"t.a.1": b"2", "t.b.2": b"1", "t.c.4": b"1"}
    assert await bucket.purge("t.a.1")
    assert not await bucket.purge("t.a.1")
    assert await bucket.get_newest("t.a.1") is None
    assert [entry.key for entry in await bucket.read_all("t.*.*", "t.b.2".__eq__)] == ["t.b.2"]
    # A purged key may be created again.
    assert await bucket.replace("t.a.1", b"3", 0) is not None


async def test_live_commits(site: Site) -> None:
    """Live commits name their execution and predecessor; a listener that left receives none."""
    received: dict[LogFilter, list[Any]] = {ONE: [], ALL: []}
    subjects = Subjects()
    listeners: dict[LogFilter, Callable[[LiveCommit], None]] = {
        part: received[part].append for part in received
    }
    for part, listener in listeners.items():
        await site.source.subscribe(subjects.live_of(part), listener)
    await site.log.edge()
    for tenant, execution in (("t", "a"), ("t", "b"), ("u", "a"), ("t", "a")):
        await site.append(tenant, execution, b"x")
    async with asyncio.timeout(60):
        while len(received[ALL]) < 3 or len(received[ONE]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [(c.execution, c.sequence, c.previous) for c in received[ALL]] == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("a", 4, 1),
    ]
    assert received[ONE] == [received[ALL][0]._replace(), received[ALL][2]]
    assert all(commit.stored_at > 1_700_000_000 for commit in received[ALL])
    await site.source.unsubscribe(subjects.live_of(ONE), listeners[ONE])
    assert len(site.source) == 1
    await site.append("t", "a", b"x")
    async with asyncio.timeout(60):
        while len(received[ALL]) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(received[ONE]) == 2
