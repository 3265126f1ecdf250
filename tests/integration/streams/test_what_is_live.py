"""Reading live executions costs nothing for a hundred thousand finished ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import pytest

from harness.generators import hand_written_log as written
from harness.nats.site import Site
from tailrace_api.dialects.pipeline_status import RunCounts
from tailrace_api.dialects.snapshot import Snapshot, SnapshotQuery
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.snapshots import Indexes, Snapshots
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.topology import RUNS
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import StartIndex
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.workflow.definition import Definition, Node

FINISHED: Final = 100_000
NAMES: Final = frozenset({"busy", "waits", "idle", "missing"})
WAITS: Final = SnapshotQuery(waits=True)
PIPELINES: Final = SnapshotQuery(workflows=NAMES)


class Cost(NamedTuple):
    """Counts of requests to NATS."""

    requests: int
    answers: int
    bytes: int


class Desk:
    """A reader with a connection of its own, whose traffic is counted."""

    def __init__(self, site: Site, jetstream: JetStream) -> None:
        self._site = site
        self._jetstream = jetstream

    async def look(self, wants: SnapshotQuery) -> tuple[Snapshot, Cost]:
        """Take a snapshot, knowing nothing yet; return what it took."""
        log = type(self._site.log)(self._jetstream, self._site.subjects)
        jetstream, subjects = self._jetstream, self._site.subjects
        indexes = Indexes(
            LiveIndex(jetstream, subjects),
            ResultIndex(jetstream, subjects),
            WaitingIndex(jetstream, subjects),
            WorkflowStore(jetstream, subjects),
            StartIndex(jetstream, subjects),
            RunIndex(jetstream, subjects),
            StatsStore(jetstream, subjects),
        )
        before = dict(self._jetstream.client.stats)
        loaded = await Snapshots(log, indexes, Contexts(log, 2**20)).load("t", wants)
        spent = {key: value - before[key] for key, value in jetstream.client.stats.items()}
        cost = Cost(spent["out_msgs"], spent["in_msgs"], spent["in_bytes"])
        return loaded.snapshot, cost


@pytest.fixture
async def desk(site: Site) -> AsyncIterator[Desk]:
    """A desk that has asked something before, so that it listens already."""
    client = await connect(site.settings, "desk")
    desk = Desk(site, JetStream(client))
    await desk.look(WAITS)
    yield desk
    await client.close()


async def begin(
    site: Site, workflow: str, execution: str, *commits: Sequence[ev.Event]
) -> ExecutionState:
    """Write a run that has not ended, as its worker would."""
    state = ExecutionState()
    await LiveIndex(site.jetstream, site.subjects).put("t", workflow, execution)
    last = 0
    for events in commits:
        for event in events:
            state.apply(event)
        last = await append(
            site.jetstream,
            site.events,
            site.subjects.log("t", execution),
            next(encode_commits(events)),
            expected=last,
            headers={WORKFLOW: workflow, STATE: str(state.commit_status)},
        )
    return state


async def wait_for_julia(site: Site, number: int) -> None:
    """Write a run that waits for a decision, its index entry included."""
    execution, wait = f"w{number}", ev.StepWait("n", "await", "waiting", None, "signal")
    state = await begin(
        site,
        "waits",
        execution,
        [written.queued(execution, "waits", run_input={"number": number})],
        [
            written.started(execution),
            written.step_started("n", "await"),
            ev.StepWaiting(wait, written.NOW),
            ev.ExecutionPaused(ev.Paused(execution, "paused", "approval"), written.NOW),
        ],
    )
    since = state.steps["n"].waiting_since
    entry = Waiting(execution, "n", "waits", "waits", "", since)
    await WaitingIndex(site.jetstream, site.subjects).put("t", entry)


async def finish_many(site: Site, first: int, count: int) -> None:
    """Write runs that have ended: a commit and a summary each, nothing waited for."""
    payload = next(encode_commits([written.queued("e", "busy"), written.completed("e")]))
    headers = {WORKFLOW: "busy", STATE: "completed 0"}
    summaries = f"$KV.{site.subjects.stream(RUNS)}.t.busy"
    streams = (site.events, f"KV_{site.subjects.stream(RUNS)}")
    stored, listed = [await site.taken(stream) for stream in streams]
    for number in range(1, count + 1):
        name = f"f{first + number - 1}"
        await site.client.publish(site.subjects.log("t", name), payload, headers=headers)
        await site.client.publish(f"{summaries}.{name}", b"{}")
        # NATS drops what it is sent faster than it can store.
        if number % 1000 == 0 or number == count:
            await _taken(site, streams[0], stored + number)
            await _taken(site, streams[1], listed + number)
    at = written.NOW
    result = Result(f"f{first + count - 1}", "completed", stored + count, at)
    await ResultIndex(site.jetstream, site.subjects).put("t", "busy", result)


async def _taken(site: Site, stream: str, count: int) -> None:
    """Return when a stream has taken so many messages."""
    while await site.taken(stream) < count:  # noqa: ASYNC110  # no event for it
        await asyncio.sleep(0.01)


def check(paused: Snapshot, status: Snapshot) -> None:
    """Check what the two snapshots say."""
    assert {
        each.context.execution_id: (each.context.input, [wait.node_id for wait in each.waits])
        for each in paused.executions
        if each.waits
    } == {f"w{number}": ({"number": number}, ["n"]) for number in range(3)}
    tally = RunCounts(NAMES, status)
    assert {name: tally.status(name) for name in NAMES - tally.missing} == {
        "busy": "completed",
        "waits": "paused",
        "idle": "idle",
    }
    assert tally.missing == {"missing"}


async def test_runs_that_have_ended_cost_nothing(site: Site, desk: Desk) -> None:
    """The paused list and the status of pipelines ask NATS for as much as without them."""
    store = WorkflowStore(site.jetstream, site.subjects)
    for name in NAMES - {"missing"}:
        await store.put("t", Definition(name, {"n": Node("log")}))
    for number in range(3):
        await wait_for_julia(site, number)
    await finish_many(site, 0, 10)
    (paused, paused_cost), (status, status_cost) = [
        await desk.look(wants) for wants in (WAITS, PIPELINES)
    ]
    check(paused, status)
    assert paused_cost.requests <= 12
    assert status_cost.requests <= 16
    assert max(paused_cost.bytes, status_cost.bytes) < 20_000
    await finish_many(site, 10, FINISHED)
    assert await site.count(f"KV_{site.subjects.stream(RUNS)}") > FINISHED
    (paused, paused_again), (status, status_again) = [
        await desk.look(wants) for wants in (WAITS, PIPELINES)
    ]
    check(paused, status)
    assert (paused_again[:2], status_again[:2]) == (paused_cost[:2], status_cost[:2])
    # Numbers have more digits.
    assert paused_again.bytes < paused_cost.bytes * 1.1
    assert status_again.bytes < status_cost.bytes * 1.1
