"""The live index: executions that have not ended."""

import pytest

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.topology import LIVE
from tailrace_shared.stores.indexes.live_index import Live, LiveIndex
from tailrace_shared.stores.indexes.run_index import RunIndex


@pytest.fixture
def index(site):
    return LiveIndex(site.jetstream, site.subjects)


async def test_live_executions_are_listed_by_tenant_and_workflow(index):
    for tenant, workflow, execution in (("t", "a", "1"), ("t", "b", "2"), ("u", "a", "3")):
        await index.put(tenant, workflow, execution)
    assert sorted(await index.of_tenant("t")) == [Live("a", "1"), Live("b", "2")]
    assert await index.of_tenant("t", "b") == [Live("b", "2")]
    assert await index.of_tenant("v") == []


async def test_a_removed_execution_leaves_nothing_behind(site, index):
    """Removal is idempotent."""
    await index.put("t", "a", "1")
    await index.put("t", "a", "1")
    await index.remove("t", "a", "1")
    await index.remove("t", "a", "1")
    assert await index.of_tenant("t") == []
    assert await site.count(f"KV_{site.subjects.stream(LIVE)}") == 0


async def test_an_id_with_a_wildcard_is_refused(index):
    """It would remove entries of others."""
    with pytest.raises(InvalidIdError):
        await index.remove("t", "a", "*")
    with pytest.raises(InvalidIdError):
        await index.of_tenant("*")


async def test_runs_of_an_older_version_are_backfilled_once(site, index):
    """From the run index, those that have not ended; a restart reads nothing."""
    runs = RunIndex(site.jetstream, site.subjects)
    for state in (
        ExecutionState(execution_id="1", workflow_id="a", status="paused"),
        ExecutionState(execution_id="2", workflow_id="a", status="completed"),
        ExecutionState(execution_id="3", workflow_id="a", status="running"),
    ):
        await runs.put("t", state)
    await index.put("t", "b", "4")
    await index.backfill(runs)
    assert sorted(await index.of_tenant("t")) == [Live("a", "1"), Live("a", "3"), Live("b", "4")]
    await index.remove("t", "a", "1")
    await LiveIndex(site.jetstream, site.subjects).backfill(runs)
    assert sorted(await index.of_tenant("t")) == [Live("a", "3"), Live("b", "4")]
