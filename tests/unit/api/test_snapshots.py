"""A snapshot equals the log at one position, even if the indexes lag."""

import asyncio
import random
from typing import Final

import msgspec
import pytest

from harness.fakes.memory_hub import MemoryHub, memory_hub
from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators.random_tenant_log import TAGS, TenantLog
from harness.models.folded_tenant import FoldedTenant
from tailrace_api.dialects.pipeline_status import RunCounts
from tailrace_api.dialects.snapshot import RunsOf, Snapshot, SnapshotQuery
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.summary import RunSummary, summary_of

_SEEDS: Final = 400
_PARTS: Final = 8
TENANTS: Final = ["t", "u"]
WORKFLOWS: Final = ["a", "b", "c"]
EVERYTHING: Final = SnapshotQuery(waits=True, workflows=frozenset(WORKFLOWS))
SOME: Final = SnapshotQuery(workflows=frozenset({"a", "b"}))
RUNS: Final = SnapshotQuery(
    workflows=frozenset(), runs=frozenset({RunsOf(), RunsOf("b"), RunsOf(tag=TAGS[0])})
)


def check(log: TenantLog, tenant: str, wants: SnapshotQuery, snapshot: Snapshot) -> None:
    """Check that a snapshot is what a fold of the log says at its place."""
    folded = FoldedTenant()
    for of, execution, sequence, events in log.commits:
        if of == tenant and sequence <= snapshot.sequence:
            folded.take(execution, events)
    live = {
        execution: (state.workflow_id, state.status)
        for execution, state in folded.states.items()
        if not state.is_terminal and (wants.waits or state.workflow_id in (wants.workflows or ()))
    }
    assert live == {
        each.context.execution_id: (each.context.workflow_id, each.status)
        for each in snapshot.executions
    }
    if wants.waits:
        assert folded.waits() == {
            (each.context.execution_id, wait.node_id, wait.since)
            for each in snapshot.executions
            for wait in each.waits
        }
        named = [each.context for each in snapshot.executions if each.waits]
        assert all(context.workflow_name == context.workflow_id.upper() for context in named)
    assert snapshot.runs.keys() == wants.runs
    for kind, runs in snapshot.runs.items():
        of_kind = [state for state in folded.states.values() if is_of(kind, state)]
        newest = sorted(of_kind, key=lambda state: state.execution_id, reverse=True)
        assert list(map(lasting, runs)) == [lasting(summary_of(state)) for state in newest]
    tally = RunCounts(wants.workflows or (), snapshot)
    assert {name: tally.status(name) for name in wants.workflows or ()} == {
        name: folded.pipeline(name) for name in wants.workflows or ()
    }


def is_of(kind: RunsOf, state: ExecutionState) -> bool:
    """Return whether a run is of a kind."""
    return kind.workflow in {None, state.workflow_id} and (
        kind.tag is None or kind.tag in state.tags
    )


def lasting(run: RunSummary) -> RunSummary:
    """Return a summary without what lists know for a moment only."""
    return msgspec.structs.replace(run, progress=0.0, eta_ms=None)


async def _life(seed: int) -> None:
    dice = random.Random(seed)
    nats = MemoryNats()
    lag = dice.choice([0, 0, 1, 3])
    nats.lag = lambda: dice.randint(0, lag)
    log = TenantLog(nats, dice, header_percent=dice.choice([100, 100, 50, 0]))
    async with memory_hub(nats) as site, asyncio.TaskGroup() as group:

        async def happen() -> None:
            for _ in range(30):
                await log.step(TENANTS, WORKFLOWS)
                await asyncio.sleep(dice.choice([0, 0, 0.005, 0.1]))

        for _ in range(2):
            group.create_task(happen())
        for _ in range(4):
            group.create_task(_look(site, log, dice))


async def _look(site: MemoryHub, log: TenantLog, dice: random.Random) -> None:
    for _ in range(3):
        await asyncio.sleep(dice.uniform(0, 2))
        tenant, wants = dice.choice(TENANTS), dice.choice([EVERYTHING, SOME, RUNS])
        asked = max((seq for of, _, seq, _ in log.commits if of == tenant), default=0)
        try:
            snapshot = (await site.snapshots.load(tenant, wants)).snapshot
        except UnavailableError:
            continue  # every replica lagged for long
        assert snapshot.sequence >= asked
        check(log, tenant, wants, snapshot)


@pytest.mark.parametrize("part", range(_PARTS))
def test_a_snapshot_is_a_fold_of_the_log(part: int) -> None:
    """While everything goes on, replicas lag, and some commits say nothing in their headers."""
    for seed in range(part * _SEEDS // _PARTS, (part + 1) * _SEEDS // _PARTS):
        try:
            run_in_virtual_time(_life(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
