"""Steps that run another workflow and wait for its end."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from harness.campaigns.campaign import campaign
from harness.generators.workflows import definition
from harness.models.log_conditions import of, running, waiting
from harness.models.log_invariants import violations
from harness.nats.deployment import NatsDeployment
from harness.nats.listening import until_leader_sends
from harness.processes.installation import Installation
from harness.processes.polling import until
from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    Origin,
    Parent,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepWaiting,
)
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, JobMessage
from tailrace_shared.nats.topology import DESCENDANTS, JOBS

NODES = {"nodes": "feature_functions"}
_MANY = 20


def call(workflow: str = "child", run_input: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a node that runs a workflow."""
    return {"type": "workflow", "with": {"id": workflow, "input": run_input}, **fields}


async def children(site: Installation, execution: str, step: str = "a") -> list[ExecutionState]:
    """Return the child runs of a step, an attempt each."""
    waits = of(await site.events(execution), StepWaiting, step)
    return [await site.state(wait.child_execution_id) for wait in waits]


async def test_a_child_runs_output_is_the_steps(site: Installation):
    """The child's definition declares the output; each run names the other."""
    site.worker()
    await site.store(
        definition(
            {"x": {"type": "transform", "with": {"value": "${input.n * 2}"}}},
            id="child",
            output={"twice": "${nodes.x.output}"},
        )
    )
    state = await site.run(
        {
            "a": call(run_input={"n": "${input}"}),
            "b": {
                "type": "transform",
                "needs": ["a"],
                "with": {"value": "${nodes.a.output.twice}"},
            },
        },
        21,
    )
    assert state.output == {"b": 42}
    (child,) = await children(site, state.execution_id)
    assert child.parent is not None
    assert (child.parent.execution_id, child.parent.node_id) == (state.execution_id, "a")
    assert (child.depth, child.input, child.workflow_id) == (1, {"n": 21}, "child")
    # It is a run like any other.
    listed = {run.execution_id for run in (await site.stores.run_list.page("default")).runs}
    assert listed == {state.execution_id, child.execution_id}


async def test_a_step_whose_child_run_fails_is_tried_again_with_a_new_one(site: Installation):
    """Each attempt has a run of its own; the last one's error is the step's."""
    site.worker()
    await site.store(definition({"x": {"type": "fail", "with": {"message": "broken"}}}, id="child"))
    retry = {"max_attempts": 3, "initial": "10ms"}
    state = await site.run({"a": call(retry=retry)})
    runs = await children(site, state.execution_id)
    assert len({run.execution_id for run in runs}) == 3
    assert {run.status for run in runs} == {"failed"}
    error = f"its run {runs[-1].execution_id} was failed: x: broken"
    assert (state.status, state.error) == ("failed", f"a: {error}")
    events = await site.events(state.execution_id)
    assert len(of(events, StepRetrying, "a")) == 2


async def test_a_cancelled_child_run_fails_its_step(site: Installation, tmp_path: Path):
    """The parent was not cancelled: its other branches go on."""
    site.worker(**NODES)
    await site.store(
        definition({"x": {"type": "test.until", "with": {"folder": str(tmp_path)}}}, id="child")
    )
    execution = await site.begin({"a": call(), "b": {}})
    events = await site.until(execution, waiting("a"))
    child = of(events, StepWaiting, "a")[0].child_execution_id
    await site.until(child, running("x"))
    await site.commander.cancel("default", child, "not now")
    await site.finished(execution)
    state = await site.state(execution)
    assert state.error == f"a: its run {child} was cancelled: not now"
    assert state.steps["b"].status == "success"


@pytest.mark.parametrize(
    ("workflow", "run_input", "error"),
    [
        ("nowhere", None, "there is no workflow 'nowhere'"),
        ("child", {"n": "text"}, "input"),
        ("no id", None, "id"),
        ("child", "${input.large}", "the input is 300002 bytes; the limit is 262144"),
    ],
)
async def test_a_child_run_that_cannot_be_started_fails_the_step_for_good(
    site: Installation, workflow: str, run_input: Any, error: str
):
    """No repetition would help; the error says what is wrong."""
    site.worker()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    await site.store(definition({"x": {}}, id="child", input=schema))
    node = call("${input.workflow}", run_input, retry={"max_attempts": 5})
    large = "x" * 300_000 if run_input == "${input.large}" else ""
    execution = await site.begin({"a": node}, {"workflow": workflow, "large": large})
    events = await site.finished(execution)
    (end,) = of(events, StepFailed, "a")
    assert error in end.error
    assert end.attempt == 1


async def test_a_workflow_that_runs_itself_ends_with_an_error(site: Installation):
    """At a depth of sixteen."""
    site.worker()
    state = await site.run({"a": call("test")})
    depth = 0
    while state.steps["a"].status == "error" and (found := await child_of(site, state)):
        state, depth = found, depth + 1
        assert (state.status, state.depth) == ("failed", depth)
    assert depth == 16
    assert state.error == ("a: runs within runs 17 deep; the limit is 16 (TAILRACE_MAX_RUN_DEPTH)")


async def child_of(site: Installation, state: ExecutionState) -> ExecutionState | None:
    """Return the child run of step `a`, or None if it was never started."""
    (wait,) = of(await site.events(state.execution_id), StepWaiting, "a")
    last = await site.log.last_commit("default", wait.child_execution_id)
    return None if last is None else await site.state(wait.child_execution_id)


async def test_a_child_run_that_ends_while_no_worker_drives_its_parent_is_not_missed(
    site: Installation, tmp_path: Path
):
    """The worker of both is killed; of what is delivered again, the child may be first."""
    first = site.worker(**NODES)
    await site.store(
        definition({"x": {"type": "test.until", "with": {"folder": str(tmp_path)}}}, id="child")
    )
    execution = await site.begin({"a": call()})
    events = await site.until(execution, waiting("a"))
    child = of(events, StepWaiting, "a")[0].child_execution_id
    await site.until(child, running("x"))
    first.kill()
    (tmp_path / "go").touch()
    site.worker(**NODES)
    events = await site.finished(execution)
    assert of(events, StepCompleted, "a")[0].output == {"x": 2}
    assert len(of(events, StepWaiting, "a")) == 1


async def test_a_child_run_that_waits_holds_no_worker_and_resumes_its_parent(
    site: Installation,
):
    """One thread is enough for three generations."""
    site.worker(worker_threads="1")
    await site.store(definition({"a": {"type": "await"}}, id="inner"))
    await site.store(definition({"a": call("inner")}, id="middle"))
    execution = await site.begin({"a": call("middle")})
    innermost = execution
    for _ in range(2):
        events = await site.until(innermost, waiting("a"))
        innermost = of(events, StepWaiting, "a")[0].child_execution_id
    await site.waits(innermost, ["a"])
    await site.commander.resume("default", innermost)
    await site.finished(execution)
    assert (await site.state(execution)).status == "completed"


async def test_a_child_run_that_takes_too_long_is_cancelled(site: Installation, tmp_path: Path):
    """The step's timeout applies to its run, whose result is no longer wanted."""
    site.worker(**NODES)
    await site.store(
        definition({"x": {"type": "test.until", "with": {"folder": str(tmp_path)}}}, id="child")
    )
    execution = await site.begin({"a": call(timeout="300ms")})
    events = await site.finished(execution)
    assert of(events, StepFailed, "a")[0].error == "timed out after 300ms"
    child = of(events, StepWaiting, "a")[0].child_execution_id
    await site.finished(child)
    assert (await site.state(child)).status == "cancelled"


async def test_a_late_child_run_is_cancelled_once_although_its_parents_worker_dies_meanwhile(
    isolated_nats: NatsDeployment, tmp_path: Path
):
    """After the request to cancel it, and before the log says that the step's time is over."""
    async with campaign(isolated_nats, tmp_path, seed=1) as fight:
        site, worker = fight.site, fight.worker()
        nap = {"x": {"type": "delay", "with": {"duration": "1h"}}}
        await fight.store(definition(nap, id="sleeper"))
        parent = await fight.store(definition({"a": call("sleeper", timeout="300ms")}))
        fight.order_death("before", "step:failed")
        execution = await fight.start(parent)
        await asyncio.to_thread(worker.wait)
        (wait,) = of(await site.events(execution), StepWaiting, "a")
        assert (await site.state(wait.child_execution_id)).cancel is not None
        assert (await site.state(execution)).steps["a"].status == "waiting"
        worker.start()
        records = await fight.settled(60)
        assert [violations(record) for record in records.values()] == [[], []]
        (end,) = of(records[execution].events, StepFailed, "a")
        assert end.error.endswith("timed out after 300ms")
        asked = records[wait.child_execution_id].events
        assert sum(isinstance(event, CommandRequested) for event in asked) == 1


TREE = {
    "type": "map",
    "with": {
        "for_each": "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
        "max_parallel": 10,
        "do": {"type": "workflow", "with": {"id": "test", "input": 0}},
    },
}


async def test_the_runs_below_a_root_are_bounded(site: Installation):
    """Ten that start ten each end by themselves; the error names the setting."""
    site.worker(max_descendants="40")
    execution = await site.begin({"a": TREE}, 0)
    await site.finished(execution)
    state = await site.state(execution)
    starts = await site.stores.run_list.page("default", limit=100)
    assert len(starts.runs) == 41
    assert (state.status, "TAILRACE_MAX_DESCENDANTS" in (state.error or "")) == ("failed", True)

    async def has_ended() -> bool:
        return not await site.stores.live.of_tenant("default")

    await until(has_ended)
    assert not await subject_counts(site.jetstream, site.subjects.stream(DESCENDANTS), ">")


async def test_nothing_begins_below_a_root_that_was_cancelled(site: Installation):
    """A child run that waits for a worker looks at its root before it starts."""
    worker = site.worker()
    await site.store(definition({"x": {"type": "await"}}, id="child"))
    root = await site.begin({"a": call()})
    events = await site.until(root, waiting("a"))
    child = of(events, StepWaiting, "a")[0].child_execution_id
    assert child is not None
    await site.until(child, waiting("x"))
    worker.kill()
    # As its parent would have started it, at the moment of the cancellation.
    grandchild = new_execution_id()
    stored = await site.workflows.get("default", "child")
    origin = Origin(parent=Parent(child, "x"), depth=2, root=root)
    await site.log.create("default", grandchild, stored, None, origin)
    await site.commander.cancel("default", root)
    await site.enqueue(grandchild)
    site.worker()
    await site.finished(grandchild)
    state = await site.state(grandchild)
    assert (state.status, state.steps, state.started_at) == ("cancelled", {}, None)
    await site.finished(child)
    await site.finished(root)


async def test_runs_that_are_cancelled_with_their_parent_do_not_wake_it(site: Installation):
    """The parent gets as few jobs as without them."""
    site.worker()
    await site.store(definition({"x": {"type": "await"}}, id="child"))
    items = {"for_each": str([*range(_MANY)]), "max_parallel": _MANY, "do": call()}
    root = await site.begin({"a": {"type": "map", "with": items}})
    events = await site.until(root, lambda found: len(_child_ids(found)) == _MANY)
    runs = _child_ids(events)
    for child in runs:
        await site.until(child, waiting("x"))
    # By their ids: a job whose acknowledgement is late is published again.
    jobs = set[str]()

    async def hear(message: Msg) -> None:
        job = msgspec.json.decode(message.data, type=JobMessage)
        if job.args[-1] == root:
            jobs.add(job.message_id)

    client = site.jetstream.client
    subscription = await client.subscribe(site.subjects.job(EXECUTIONS_QUEUE), cb=hear)
    await until_leader_sends(client, site.subjects.stream(JOBS))
    await site.commander.cancel("default", root)
    for run in (*runs, root):
        await site.finished(run)
    await until(lambda: _is_idle(site))
    await subscription.unsubscribe()
    assert 1 <= len(jobs) < _MANY // 2


def _child_ids(events: list[Event]) -> list[str]:
    return [
        event.data.child_execution_id
        for event in events
        if isinstance(event, StepWaiting) and event.data.child_execution_id
    ]


async def _is_idle(site: Installation) -> bool:
    """Return whether no run is live, and all jobs are done."""
    info = await site.jetstream.api(f"STREAM.INFO.{site.subjects.stream(JOBS)}")
    return not info["state"]["messages"] and not await site.stores.live.of_tenant("default")
