"""How many runs a tenant may start within a minute, whoever it asks."""

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
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Definition, Node

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


async def _charge_without_end(rate):
    while True:
        await rate.consume("t")


class TestCounting:
    """The limit itself."""

    async def test_replicas_together_admit_as_many_as_one_would(self, site):
        """All ask at the same time; exactly so many get through."""
        replicas = [await _rate(site, 10) for _ in range(4)]
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 10))
        assert (outcomes.count(None), outcomes.count(TooManyRunsError)) == (10, 30)

    async def test_tenants_do_not_count_for_each_other(self, site):
        """Each has its own minute."""
        rate = await _rate(site, 1)
        await rate.consume("t")
        await rate.consume("u")
        with pytest.raises(TooManyRunsError):
            await rate.consume("t")

    async def test_a_refusal_says_the_limit_and_when_to_come_back(self, site):
        """Not before the oldest start is a minute old."""
        rate = await _rate(site, 2)
        began = time.time()
        await rate.consume("t")
        await rate.consume("t")
        with pytest.raises(TooManyRunsError, match="may start 2 runs a minute") as refusal:
            await rate.consume("t")
        assert 59 - (time.time() - began) < refusal.value.retry_after <= 60

    async def test_what_is_a_minute_old_does_not_count(self, site):
        """This minute has a second."""
        rate = await _rate(site, 1, minute=1)
        with pytest.raises(TooManyRunsError) as refusal:
            await _charge_without_end(rate)
        assert refusal.value.retry_after == 1
        while await _outcomes(rate.consume("t")) != [None]:
            pass

    async def test_a_repeated_request_counts_once(self, site):
        """It is known by what it has in common with the first."""
        rate = await _rate(site, 2)
        for _ in range(5):
            await rate.consume("t", "key")
        await rate.consume("t")
        with pytest.raises(TooManyRunsError):
            await rate.consume("t", "other")

    async def test_another_limit_takes_effect_with_the_next_start_of_a_replica(self, site):
        """No operator has to change a stream by hand."""
        await (await _rate(site, 1)).consume("t")
        more = await _rate(site, 2)
        await more.consume("t")
        with pytest.raises(TooManyRunsError, match="may start 2 runs"):
            await more.consume("t")


class TestClusters:
    """Three copies of the count, and three servers that are asked."""

    @pytest.fixture
    async def replicas(self, nats_cluster):
        """A counter at each server of a cluster, ten starts a minute."""
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
        """Return when the cluster has leaders, and this server knows the way to the stream's."""
        async with asyncio.timeout(90):
            while True:
                try:
                    await counter.prepare()
                    await counter.consume("nobody")
                except (TopologyMismatchError, UnavailableError, JetStreamError):
                    await asyncio.sleep(0.1)
                else:
                    return

    async def test_a_cluster_admits_as_many_as_one_server_would(self, replicas):
        """Whichever server is asked, and however many at the same time."""
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 20))
        assert (outcomes.count(None), outcomes.count(TooManyRunsError)) == (10, 50)

    async def test_a_request_that_is_sent_to_all_at_once_counts_once(self, replicas):
        """A server that is still busy with its twin is asked again."""
        assert await _outcomes(*(rate.consume("t", "key") for rate in replicas * 5)) == [None] * 15
        outcomes = await _outcomes(*(rate.consume("t") for rate in replicas * 5))
        assert outcomes.count(None) == 9


class TestStarts:
    """What counts, and what does not."""

    @pytest.fixture
    async def starter(self, site):
        """A starter whose tenants may start two runs a minute."""
        stores = Stores.over(site.jetstream, site.subjects)
        await stores.workflows.put("t", Definition("w", {"n": Node("log")}, input=SCHEMA))
        jobs = JobPublisher(site.jetstream, site.subjects)
        return RunStarter(stores, jobs, await _rate(site, 2))

    @staticmethod
    def _request(key=None, **run_input):
        return RunRequest("t", "w", "input", run_input, run_input, key)

    async def test_a_start_beyond_the_limit_leaves_nothing(self, site, starter):
        """Neither a log nor an entry for its key, which may be used again."""
        for _ in range(2):
            await starter.start(self._request(x=1))
        before = await site.count(site.subjects.stream(EVENTS))
        with pytest.raises(TooManyRunsError):
            await starter.start(self._request("k", x=1))
        assert await site.count(site.subjects.stream(EVENTS)) == before
        assert await site.count(f"KV_{site.subjects.stream(IDEMPOTENCY)}") == 0

    async def test_one_key_is_one_start(self, site, starter):
        """However often it is sent, at once or later."""
        states = await asyncio.gather(*(starter.start(self._request("k", x=1)) for _ in range(5)))
        states.append(await starter.start(self._request("k", x=1)))
        assert len({state.execution_id for state in states}) == 1
        assert await site.count(site.subjects.stream(RATE)) == 1

    async def test_reruns_count_as_starts_do(self, site, starter):
        """And a repeated one does not count again."""
        state = await starter.start(self._request(x=1))
        end = ev.ExecutionCancelled(ev.Cancelled(state.execution_id, "cancelled", 1), NOW)
        await site.commit(state.execution_id, end)
        first = await starter.rerun("t", state.execution_id, None, "k")
        again = await starter.rerun("t", state.execution_id, None, "k")
        assert first.execution_id == again.execution_id
        with pytest.raises(TooManyRunsError):
            await starter.rerun("t", state.execution_id, None, None)

    async def test_child_runs_do_not_count(self, site, starter):
        """Their parent has, and a workflow must be able to do its work."""
        origin = ev.Origin(parent=ev.Parent("p", "n"), depth=1)
        for _ in range(5):
            await starter.start_child("t", new_execution_id(), "w", {"x": 1}, origin)
        assert await site.count(site.subjects.stream(RATE)) == 0

    async def test_a_wrong_input_is_what_is_said_first(self, starter):
        """It is refused the same way within the limit and beyond."""
        for _ in range(4):
            with pytest.raises(InvalidInputError):
                await starter.start(self._request())
