"""The store of run history."""

import asyncio

import pytest

from harness.generators.workflows import definition
from tailrace_shared.errors import InvalidIdError
from tailrace_shared.estimation import NodeHistory, RunDelta, RunHistory, count_of
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.topology import STATS
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.stats_store import StatsStore

pytestmark = pytest.mark.one_node("statistics may lag")

NOON = 1_700_006_400.0


@pytest.fixture
def store(site):
    return StatsStore(site.jetstream, site.subjects)


def delta(nodes=1, milliseconds=2000):
    """Return the delta of one run."""
    steps = {
        f"n{n}": StepState(f"n{n}", "simulate", "success", duration_ms=milliseconds)
        for n in range(nodes)
    }
    noted = RunDelta()
    noted.record_run(
        ExecutionState(
            status="completed",
            finished_at=format_timestamp(NOON),
            duration_ms=milliseconds,
            steps=steps,
        )
    )
    return noted


async def test_concurrent_writes_are_all_counted(store, site):
    """A writer that loses the race reads the newer record and adds to it."""
    others = [StatsStore(site.jetstream, site.subjects) for _ in range(8)]
    await asyncio.gather(*(other.add("t", "flow", delta()) for other in others))
    runs, nodes = await store.runs("t", "flow"), await store.nodes("t", "flow")
    assert runs.completed == count_of(runs.durations) == 8
    assert runs.minutes == {int(NOON // 60): (8, 0, 0)}
    assert count_of(nodes.durations["n0"]) == 8


async def test_a_tenant_reads_only_its_own_history(store):
    """A workflow of the same name of another tenant is separate."""
    await store.add("t", "flow", delta())
    await store.add("t", "other", delta())
    await store.add("u", "flow", delta())
    await store.add("u", "flow", delta())
    assert {name: record.completed for name, record in (await store.runs_of_all("t")).items()} == {
        "flow": 1,
        "other": 1,
    }
    assert (await store.runs("u", "flow")).completed == 2
    assert await store.runs_of_all("other") == {}
    with pytest.raises(InvalidIdError):
        await store.runs_of_all("*")


async def test_a_workflow_without_runs_has_an_empty_history(store):
    assert await store.runs("t", "flow") == RunHistory()
    assert await store.nodes("t", "flow") == NodeHistory()


async def test_the_history_of_a_large_workflow_fits_into_a_message(store, site):
    """Ten thousand nodes are stored like ten."""
    await store.add("t", "flow", delta(nodes=10_000))
    assert len((await store.nodes("t", "flow")).durations) == 10_000
    assert await site.count(f"KV_{site.subjects.stream(STATS)}") == 2


async def test_estimators_use_the_stored_history(store):
    """Callers share a cached estimator."""
    estimators = EstimatorCache(store, 60.0)
    workflow = definition({"n0": {}, "n1": {"needs": ["n0"]}}, id="flow")
    assert (await estimators.get("u", workflow, 1)).whole_run(ExecutionState(), 0.0) is None
    await store.add("t", "flow", delta(nodes=2))
    first, second = await asyncio.gather(
        estimators.get("t", workflow, 1), estimators.get("t", workflow, 1)
    )
    assert first is second is await estimators.get("t", workflow, 1)
    assert first.whole_run(ExecutionState(), 0.0) == pytest.approx(4, rel=0.02)
