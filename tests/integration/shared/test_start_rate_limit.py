"""The rate limit of starts, across replicas."""

import asyncio
import time

import nats
import pytest

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.commands.start_rate_limit import StartRateLimit
from tailrace_shared.errors import (
    JetStreamError,
    TooManyRunsError,
    TopologyMismatchError,
    UnavailableError,
)
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id, new_token
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS, IDEMPOTENCY, RATE
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Definition, Node

pytestmark = pytest.mark.one_node(
    "the limit is a stream in memory, whose messages are counted by its leader"
)

NOW = "2024-01-15T10:30:00.000Z"
SCHEMA = {"type": "object", "required": ["x"]}


async def _rate(site, per_minute, **options):
    rate = StartRateLimit(site.jetstream, site.subjects, per_minute, **options)
    await rate.prepare()
    return rate


async def _outcomes(*starts):
    return [
        type(outcome) if isinstance(outcome, Exception) else None
        for outcome in await asyncio.gather(*starts, return_exceptions=True)
    ]


async def _consume_all(rate):
    while True:
        await rate.consume("t")


class TestCounting:
    """The limit itself."""

    async def test_replicas_share_one_limit(self, site):
        """Of concurrent starts exactly the limit is admitted."""
        replicas = [await _rate(site, 10) for _ in range(4)]
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 10))
        assert (outcomes.count(None), outcomes.count(TooManyRunsError)) == (10, 30)

    async def test_tenants_have_separate_limits(self, site):
        rate = await _rate(site, 1)
        await rate.consume("t")
        await rate.consume("u")
        with pytest.raises(TooManyRunsError):
            await rate.consume("t")

    async def test_a_refusal_has_the_limit_and_the_retry_delay(self, site):
        """The delay ends when the oldest start leaves the window."""
        rate = await _rate(site, 2)
        began = time.time()
        await rate.consume("t")
        await rate.consume("t")
        with pytest.raises(TooManyRunsError, match="may start 2 runs per minute") as refusal:
            await rate.consume("t")
        assert 59 - (time.time() - began) < refusal.value.retry_after <= 60

    async def test_starts_leave_the_window_after_a_minute(self, site):
        """The window of this test is a second."""
        rate = await _rate(site, 1, minute=1)
        with pytest.raises(TooManyRunsError) as refusal:
            await _consume_all(rate)
        assert refusal.value.retry_after == 1
        while await _outcomes(rate.consume("t")) != [None]:
            pass

    async def test_a_repeated_request_counts_once(self, site):
        """It is recognized by its request id."""
        rate = await _rate(site, 2)
        for _ in range(5):
            await rate.consume("t", "key")
        await rate.consume("t")
        with pytest.raises(TooManyRunsError):
            await rate.consume("t", "other")

    async def test_a_changed_limit_takes_effect_when_a_replica_starts(self, site):
        """No operator has to edit the stream."""
        await (await _rate(site, 1)).consume("t")
        more = await _rate(site, 2)
        await more.consume("t")
        with pytest.raises(TooManyRunsError, match="may start 2 runs"):
            await more.consume("t")


class TestClusters:
    """Three replicas of the stream on three servers."""

    @pytest.fixture
    async def replicas(self, nats_cluster):
        """A limit of ten starts a minute, over each server of a cluster."""
        clients = [await nats.connect(url) for url in nats_cluster.urls]
        subjects = Subjects(f"t-{new_token()[:8]}")
        counters = [
            StartRateLimit(JetStream(client), subjects, 10, replicas=3) for client in clients
        ]
        for counter in counters:
            await self._led(counter)
        yield counters
        for client in clients:
            await client.close()

    @staticmethod
    async def _led(counter):
        """Wait until the cluster has leaders, and this server reaches the stream's."""
        async with asyncio.timeout(90):
            while True:
                try:
                    await counter.prepare()
                    await counter.consume("probe")
                except (TopologyMismatchError, UnavailableError, JetStreamError):
                    await asyncio.sleep(0.1)
                else:
                    return

    async def test_a_cluster_has_the_limit_of_one_server(self, replicas):
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 20))
        assert (outcomes.count(None), outcomes.count(TooManyRunsError)) == (10, 50)

    async def test_a_request_sent_to_all_servers_counts_once(self, replicas):
        """A server that is still storing the first copy is asked again."""
        assert await _outcomes(*(rate.consume("t", "key") for rate in replicas * 5)) == [None] * 15
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 5))
        assert outcomes.count(None) == 9


class TestStarts:
    """Count accepted starts only."""

    @pytest.fixture
    async def starter(self, site):
        """A starter whose tenants may start two runs a minute."""
        stores = Stores.over(site.jetstream, site.subjects)
        await stores.workflows.put("t", Definition("w", {"n": Node("log")}, input=SCHEMA))
        jobs = JobPublisher(site.jetstream, site.subjects)
        return RunStarter(stores, jobs, FairThreads(), await _rate(site, 2))

    @staticmethod
    def _request(key=None, **run_input):
        return RunRequest("t", "w", "input", run_input, run_input, key)

    async def test_a_refused_start_leaves_nothing_behind(self, site, starter):
        """No log, and no claim of its key, which may be used again."""
        for _ in range(2):
            await starter.start(self._request(x=1))
        before = await site.count(site.subjects.stream(EVENTS))
        with pytest.raises(TooManyRunsError):
            await starter.start(self._request("k", x=1))
        assert await site.count(site.subjects.stream(EVENTS)) == before
        assert await site.count(f"KV_{site.subjects.stream(IDEMPOTENCY)}") == 0

    async def test_one_key_is_one_start(self, site, starter):
        """However often the request is repeated."""
        states = await asyncio.gather(*(starter.start(self._request("k", x=1)) for _ in range(5)))
        states.append(await starter.start(self._request("k", x=1)))
        assert len({state.execution_id for state in states}) == 1
        assert await site.count(site.subjects.stream(RATE)) == 1

    async def test_reruns_count_as_starts_do(self, site, starter):
        """A repeated rerun does not count again."""
        state = await starter.start(self._request(x=1))
        end = ev.ExecutionCancelled(ev.Cancelled(state.execution_id, "cancelled", 1), NOW)
        await site.commit(state.execution_id, end)
        first = await starter.rerun("t", state.execution_id, None, "k")
        again = await starter.rerun("t", state.execution_id, None, "k")
        assert first.execution_id == again.execution_id
        with pytest.raises(TooManyRunsError):
            await starter.rerun("t", state.execution_id, None, None)

    async def test_child_runs_do_not_count(self, site, starter):
        """Their parent counted, and a workflow must be able to finish."""
        origin = ev.Origin(parent=ev.Parent("p", "n"), depth=1)
        for _ in range(5):
            await starter.start_child("t", new_execution_id(), "w", {"x": 1}, origin)
        assert await site.count(site.subjects.stream(RATE)) == 0

    async def test_an_invalid_input_is_refused_before_the_limit(self, starter):
        """It gets the same error within the limit and beyond."""
        for _ in range(4):
            with pytest.raises(InvalidInputError):
                await starter.start(self._request())
