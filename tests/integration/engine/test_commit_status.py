"""The headers of commits and the small indexes agree with the log."""

import asyncio

from harness.generators.workflows import definition
from harness.models.log_conditions import paused
from harness.nats.current_reads import current_messages
from harness.processes.installation import TENANT, Installation
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.execution.commit_status import STATE, WORKFLOW, CommitStatus
from tailrace_shared.execution.commits import decode_commit
from tailrace_shared.execution.events import Event, ExecutionCancelled, ExecutionFailed
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.jetstream import StoredMessage
from tailrace_shared.nats.topology import EVENTS, LIVE, WORKFLOWS
from tailrace_shared.stores.indexes.live_index import Live, LiveIndex
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex

APPROVAL = {"type": "await", "with": {"reason": "approval"}}
NODES = {
    "a": {"type": "simulate", "with": {"duration": "10ms", "progress": True}},
    "b": APPROVAL | {"needs": ["a"]},
    "c": APPROVAL,
    "d": {"type": "log", "with": {"message": "x"}, "needs": ["b"]},
}


async def start(site: Installation, workflow: str) -> str:
    """Start a run of a stored workflow, as a route does."""
    state = await site.starter.start(RunRequest(TENANT, workflow, "input", {}, {}, None))
    return state.execution_id


async def messages(site: Installation, execution: str) -> list[StoredMessage]:
    """Return all commits of an execution with their headers."""
    stream, subject = site.subjects.stream(EVENTS), site.subjects.log(TENANT, execution)
    return await current_messages(site.jetstream, stream, subject)


def check(stored: list[StoredMessage], workflow: str) -> ExecutionState:
    """Check that each commit says what the log folds to with it."""
    state = ExecutionState()
    for message in stored:
        for event in decode_commit(message.data):
            state.apply(event)
        assert message.headers[WORKFLOW] == workflow
        assert CommitStatus.parse(message.headers[STATE]) == state.commit_status
    return state


async def live(site: Installation, execution: str, *, wanted: bool) -> None:
    """Wait until the live index has an execution, or has it no more."""
    index = LiveIndex(site.jetstream, site.subjects)
    await site.until_read(
        [f"$KV.{site.subjects.stream(LIVE)}.>", "$JS.EVENT.ADVISORY.API"],
        lambda: index.of_tenant(TENANT),
        lambda found: (execution in [entry.execution for entry in found]) == wanted,
        60,
    )


async def test_every_commit_carries_the_status_of_its_execution(site: Installation) -> None:
    """Commits of the API and of workers alike; a cancellation names the waiting steps."""
    workflow = (await site.store(definition(NODES))).definition.id
    execution = await start(site, workflow)
    index = LiveIndex(site.jetstream, site.subjects)
    assert await index.of_tenant(TENANT, workflow) == [Live(workflow, execution)]
    site.worker()
    await site.until(execution, paused())
    state = check(await messages(site, execution), workflow)
    assert (state.status, state.signal_waits) == ("paused", 2)
    await site.commander.resolve(TENANT, execution, Decision("c", "approved"), Caller("julia"))
    await site.until(execution, lambda events: "c" not in _waits(events))
    await site.commander.cancel(TENANT, execution, "enough", Caller("julia"))
    events = await site.finished(execution)
    assert check(await messages(site, execution), workflow).signal_waits == 0
    (end,) = [event for event in events if isinstance(event, ExecutionCancelled)]
    assert end.data.waiting == ["b"]


def _waits(events: list[Event]) -> list[str]:
    state = ExecutionState()
    for event in events:
        state.apply(event)
    return state.waiting(100)


async def test_a_run_leaves_the_live_index_when_its_result_is_known(site: Installation) -> None:
    """The result index has it as the last run."""
    nodes = {"a": {"type": "transform", "with": {"value": 1}}}
    workflow = (await site.store(definition(nodes))).definition.id
    site.worker()
    runs = [await start(site, workflow) for _ in range(20)]
    await asyncio.gather(*(site.finished(run) for run in runs))
    await asyncio.gather(*(live(site, run, wanted=False) for run in runs))
    ends = {run: (await messages(site, run))[-1].sequence for run in runs}
    last = max(runs, key=lambda run: ends[run])
    found = (await ResultIndex(site.jetstream, site.subjects).of(TENANT, [workflow]))[workflow]
    finished_at = (await site.state(last)).finished_at
    assert finished_at is not None
    assert found == Result(last, "completed", ends[last], finished_at)


async def test_a_start_that_is_repeated_when_its_run_has_ended_leaves_no_entry(
    site: Installation,
) -> None:
    """It finds the run that is over; a worker strikes it out, as its result must be known first."""
    nodes = {"a": {"type": "transform", "with": {"value": 1}}}
    workflow = (await site.store(definition(nodes))).definition.id
    request = RunRequest(TENANT, workflow, "input", {}, {}, "key")
    site.worker()
    execution = (await site.starter.start(request)).execution_id
    await site.finished(execution)
    await live(site, execution, wanted=False)
    assert (await site.starter.start(request)).execution_id == execution
    await live(site, execution, wanted=False)


async def test_one_whose_workflow_is_gone_ends_and_leaves_no_entry(site: Installation) -> None:
    """It cannot be driven, but its entries in the indexes are removed."""
    workflow = (await site.store(definition({"c": APPROVAL}))).definition.id
    execution = await start(site, workflow)
    worker = site.worker()
    await site.waits(execution, ["c"])
    # Another worker has no plan of it in memory.
    worker.kill()
    bucket = site.subjects.stream(WORKFLOWS)
    await site.jetstream.api(f"STREAM.PURGE.KV_{bucket}", {})
    site.worker()
    await site.jobs.advance(TENANT, execution)
    events = await site.finished(execution)
    assert isinstance(events[-1], ExecutionFailed)
    await site.waits(execution, [])
    await live(site, execution, wanted=False)
    assert check(await messages(site, execution), workflow).status == "failed"
    found = await ResultIndex(site.jetstream, site.subjects).of(TENANT, [workflow])
    assert found[workflow].status == "failed"
