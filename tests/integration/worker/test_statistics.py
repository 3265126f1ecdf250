"""A worker collects the statistics of runs and writes them in batches."""

import pytest

from harness.generators.workflows import definition
from harness.nats.server import NatsServer
from tailrace_shared.estimation import count_of
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import STATS, topology
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.services.run_statistics import Statistics


def _run(workflow: str, nodes: int = 1) -> ExecutionState:
    steps = {
        f"n{n}": StepState(f"n{n}", "simulate", "success", duration_ms=100) for n in range(nodes)
    }
    return ExecutionState(
        workflow_id=workflow,
        status="completed",
        finished_at=format_timestamp(1_700_000_000.0),
        duration_ms=100,
        steps=steps,
    )


async def test_statistics_that_could_not_be_written_are_written_later(nats_server: NatsServer):
    """They are written once, together with later ones."""
    settings = WorkerSettings(nats_url=nats_server.url)
    client = await connect(settings, "test")
    jetstream = JetStream(client)
    await ensure(jetstream, topology(settings))
    store = StatsStore(jetstream, Subjects())
    statistics = Statistics(store)
    statistics.note("t", _run("flow"))
    await statistics.flush()
    assert (await store.runs("t", "flow")).completed == 1
    nats_server.kill()
    statistics.note("t", _run("flow"))
    statistics.note("t", _run("other"))
    await statistics.flush()
    statistics.note("t", _run("flow"))
    nats_server.start()
    while (await _completed(statistics, store)) < 4:
        pass
    assert {name: runs.completed for name, runs in (await store.runs_of_all("t")).items()} == {
        "flow": 3,
        "other": 1,
    }
    await client.close()


async def _completed(statistics: Statistics, store: StatsStore) -> int:
    """Flush, and return the number of recorded runs."""
    await statistics.flush()
    return sum(runs.completed for runs in (await store.runs_of_all("t")).values())


async def test_a_worker_collects_a_limited_amount(site):
    """Further workflows are ignored until the collected ones are written."""
    store = StatsStore(site.jetstream, site.subjects)
    statistics = Statistics(store, max_nodes=10)
    for number in range(5):
        statistics.note("t", _run(f"flow-{number}", nodes=5))
        statistics.note("t", _run("flow-0", nodes=5))
    await statistics.flush()
    counted = {name: runs.completed for name, runs in (await store.runs_of_all("t")).items()}
    assert counted == {"flow-0": 6, "flow-1": 1}
    statistics.note("t", _run("flow-4"))
    await statistics.flush()
    assert (await store.runs("t", "flow-4")).completed == 1


async def test_large_runs_are_recorded_like_small_ones(site):
    """They are processed in steps, so that they do not block the loop."""
    store = StatsStore(site.jetstream, site.subjects)
    statistics = Statistics(store)
    for _ in range(3):
        statistics.note("t", _run("flow", nodes=2000))
        statistics.note("t", _run("flow"))
    await statistics.flush()
    assert (await store.runs("t", "flow")).completed == 6
    nodes = await store.nodes("t", "flow")
    assert len(nodes.durations) == 2000
    assert count_of(nodes.durations["n0"]) == 6


@pytest.mark.parametrize("tenant", ["t", "u"])
async def test_tenants_have_separate_statistics_of_workflows_with_one_name(site, tenant: str):
    """Also while they are collected."""
    store = StatsStore(site.jetstream, site.subjects)
    statistics = Statistics(store)
    statistics.note("t", _run("flow"))
    statistics.note("u", _run("flow"))
    await statistics.flush()
    assert (await store.runs(tenant, "flow")).completed == 1


async def test_an_unreadable_record_does_not_block_others(
    nats_server: NatsServer,
):
    """The bucket contains an entry that is not JSON."""
    settings = WorkerSettings(nats_url=nats_server.url)
    client = await connect(settings, "test")
    jetstream = JetStream(client)
    await ensure(jetstream, topology(settings))
    bucket = Subjects().stream(STATS)
    await jetstream.publish(f"$KV.{bucket}.t.flow.nodes", b"no JSON")
    store = StatsStore(jetstream, Subjects())
    statistics = Statistics(store)
    for _ in range(2):
        statistics.note("t", _run("flow"))
        statistics.note("t", _run("other"))
        await statistics.flush()
    assert (await store.runs("t", "other")).completed == 2
    # Nor does estimation by that record fail.
    estimator = await EstimatorCache(store, 10.0).get("t", definition({"a": {}}, id="flow"), 1)
    assert not estimator.has_history
    await client.close()
