"""The live index: what has not ended, by workflow."""

import pytest

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.topology import LIVE
from tailrace_shared.stores.indexes.live_index import Live, LiveIndex
from tailrace_shared.stores.indexes.run_index import RunIndex


@pytest.fixture
def index(site):
    """An index as a service has it."""
    return LiveIndex(site.jetstream, site.subjects)


async def test_what_is_live_is_found_by_tenant_and_workflow(index):
    """And nobody else's."""
    for tenant, workflow, execution in (("t", "a", "1"), ("t", "b", "2"), ("u", "a", "3")):
        await index.put(tenant, workflow, execution)
    assert sorted(await index.of_tenant("t")) == [Live("a", "1"), Live("b", "2")]
    assert await index.of_tenant("t", "b") == [Live("b", "2")]
    assert await index.of_tenant("v") == []


async def test_what_has_ended_leaves_nothing_behind(site, index):
    """Struck out twice is struck out once."""
    await index.put("t", "a", "1")
    await index.put("t", "a", "1")
    await index.remove("t", "a", "1")
    await index.remove("t", "a", "1")
    assert await index.of_tenant("t") == []
    assert await site.count(f"KV_{site.subjects.stream(LIVE)}") == 0


async def test_no_id_reaches_beyond_its_entry(index):
    """A wildcard would remove those of others."""
    with pytest.raises(InvalidIdError):
        await index.remove("t", "a", "*")
    with pytest.raises(InvalidIdError):
        await index.of_tenant("*")


async def test_what_an_older_version_has_begun_is_adopted_once(site, index):
    """Of the index of runs, what has not ended; who starts again reads nothing."""
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
