"""Steps that wait for a decision or a trigger, and hold no worker meanwhile."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.generators.workflows import definition
from harness.models.log_conditions import done, of, paused, types_of, waiting
from harness.processes import polling
from harness.processes.installation import TENANT, Installation
from harness.processes.ports import free_port
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.events import (
    CommandRequested,
    ExecutionPaused,
    ExecutionResumed,
    StepCompleted,
    StepWaiting,
)
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_worker.engine.decide.outcomes import end_event
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.nodes.waits import ForSignal

APPROVAL = {"type": "await", "with": {"reason": "approval"}}
TRIGGERED = {"type": "await", "with": {"triggers": ["po.approved"], "match": "event.po == input"}}
JULIA = Caller("julia")


async def decide(site: Installation, execution: str, decision: Decision) -> None:
    """Give a waiting step its signal."""
    await site.commander.resolve(TENANT, execution, decision, JULIA)


async def metric(port: int, name: str) -> float:
    """Return one metric of a worker, summed over its labels."""
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
    families = text_string_to_metric_families(answer.text)
    return sum(each.value for family in families for each in family.samples if each.name == name)


async def left_alone(port: int) -> None:
    """Wait until a worker drives nothing and holds no job."""
    async with asyncio.timeout(60):
        while await metric(port, "tailrace_worker_executions"):
            pass
        while await metric(port, "tailrace_broker_in_flight"):
            pass


async def commit_wait(site: Installation, execution: str, node: str, wait: ForSignal) -> Waiting:
    """Write the log up to the wait of a node as a worker would; return the missing index entry."""
    history = await site.log.load_newest(TENANT, execution)
    stored = await site.workflows.get(TENANT, history.state.workflow_id)
    scheduler = Scheduler(Plan(stored.definition), history.state)
    batch = scheduler.decide(time.time())
    step, planned = scheduler.state.steps[node], scheduler.plan.step(node).node
    batch.append(scheduler.record(end_event(step, wait, planned, time.time(), 0.0)))
    await site.append(execution, batch, history.last_sequence)
    commit = await site.log.last_commit(TENANT, execution)
    assert commit is not None
    return Waiting(
        execution, node, stored.definition.id, "", "", "", triggers=wait.triggers, began=commit.time
    )


# Decisions


async def test_an_approval_records_who_decided_and_what_they_entered(site: Installation):
    """The decision is the step's output, for those that follow, and resumes the execution."""
    site.worker()
    execution = await site.begin(
        {
            "a": APPROVAL,
            "b": {
                "type": "transform",
                "needs": ["a"],
                "when": "nodes.a.output.decision == 'approved'",
                "with": {"value": "${nodes.a.output.data.price}"},
            },
        }
    )
    (entry,) = await site.waits(execution, ["a"])
    assert entry.reason == "approval"
    await decide(site, execution, Decision("a", "approved", {"price": 7}))
    events = await site.finished(execution)
    (output,) = [event.output for event in of(events, StepCompleted, "a")]
    assert output == {
        "decision": "approved",
        "data": {"price": 7},
        "actor": "julia",
        "event": None,
    }
    assert (await site.state(execution)).output == {"b": 7}
    (wait,) = [event for event in events if isinstance(event, StepWaiting)]
    assert entry.since == wait.timestamp
    (pause,) = [event.data for event in events if isinstance(event, ExecutionPaused)]
    assert (pause.reason, pause.requested, pause.waiting) == ("approval", False, ["a"])
    (resume,) = [event.data for event in events if isinstance(event, ExecutionResumed)]
    assert resume.resumed_from == "a"
    assert types_of(events) == [
        "execution:queued",
        "execution:started",
        "step:started a",
        "step:waiting a",
        "execution:paused",
        "command:requested",
        "execution:resumed",
        "step:completed a",
        "step:started b",
        "step:completed b",
        "execution:completed",
    ]


async def test_a_rejection_is_data_for_the_conditions_that_follow(site: Installation):
    """A rejection is no failure."""
    site.worker()
    execution = await site.begin(
        {
            "a": APPROVAL,
            "yes": {"needs": ["a"], "when": "nodes.a.output.decision == 'approved'"},
            "no": {"needs": ["a"], "when": "nodes.a.output.decision == 'rejected'"},
        }
    )
    await site.until(execution, paused())
    await decide(site, execution, Decision(None, "rejected"))
    await site.finished(execution)
    state = await site.state(execution)
    assert state.status == "completed"
    assert {node: step.status for node, step in state.steps.items()} == {
        "a": "success",
        "yes": "skipped",
        "no": "success",
    }


async def test_a_rejection_fails_the_step_if_the_definition_asks_for_it(site: Installation):
    """The error names who rejected."""
    site.worker()
    execution = await site.begin({"a": {"type": "await", "with": {"on_reject": "fail"}}, "b": {}})
    await site.until(execution, waiting("a"))
    await decide(site, execution, Decision("a", "rejected"))
    await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.error) == ("failed", "a: rejected by julia")


async def test_branches_that_wait_at_once_are_resumed_one_by_one(site: Installation):
    """Each goes on by itself; the execution pauses again for those that are left."""
    site.worker()
    names = ["a", "b", "c"]
    after = {f"after_{name}": {"needs": [name]} for name in names}
    execution = await site.begin({**dict.fromkeys(names, APPROVAL), **after})
    await site.waits(execution, names)
    with pytest.raises(IllegalCommandError, match="several steps wait for a signal; choose one"):
        await decide(site, execution, Decision())
    for count, name in enumerate(["b", "a", "c"]):
        await site.until(execution, paused(count + 1))
        await decide(site, execution, Decision(name))
        await site.until(execution, done(f"after_{name}"))
        with pytest.raises(IllegalCommandError):
            await decide(site, execution, Decision(name))
    events = await site.finished(execution)
    assert [e.data.waiting for e in events if isinstance(e, ExecutionPaused)] == [
        ["a", "b", "c"],
        ["a", "c"],
        ["c"],
    ]
    await site.waits(execution, [])


async def test_an_execution_with_a_running_branch_is_not_paused(site: Installation, tmp_path: Path):
    """Paused means that no step can continue; here one does."""
    site.worker(nodes="feature_functions")
    busy = {"type": "test.until", "with": {"folder": str(tmp_path)}}
    execution = await site.begin({"a": APPROVAL, "b": busy})
    await site.waits(execution, ["a"])
    assert not paused()(await site.events(execution))
    (tmp_path / "go").touch()
    await site.until(execution, paused())
    await decide(site, execution, Decision("a"))
    events = await site.finished(execution)
    assert types_of(events).index("execution:paused") > types_of(events).index("step:completed b")


# Timeouts


@pytest.mark.parametrize(
    ("on_timeout", "status", "error"),
    [
        ("fail", "failed", "a: timed out after 100ms"),
        ("cancel", "cancelled", "a: timed out after 100ms"),
        ("continue", "completed", None),
    ],
)
async def test_a_wait_ends_by_its_timeout_in_the_way_that_it_names(
    site: Installation, on_timeout: str, status: str, error: str | None
):
    """An execution that waits for nothing else is paused until then, and resumed by the time."""
    site.worker()
    node = {**APPROVAL, "timeout": "100ms", "on_timeout": on_timeout}
    state = await site.run({"a": node, "b": {"needs": ["a"]}})
    assert (state.status, state.error) == (status, error)
    events = await site.events(state.execution_id)
    assert paused()(events)
    assert "execution:resumed" in types_of(events)
    if on_timeout == "continue":
        output = {"decision": "timeout", "data": None, "actor": None, "event": None}
        assert state.steps["a"].output == output
        assert state.steps["b"].status == "success"
    await site.waits(state.execution_id, [])


async def test_nats_holds_a_distant_timeout(site: Installation):
    """No worker holds the execution until then, and any worker may end it."""
    port = free_port()
    first = site.worker(metrics_port=str(port))
    execution = await site.begin({"a": {**APPROVAL, "timeout": "10s", "on_timeout": "continue"}})
    await site.until(execution, paused())
    await left_alone(port)
    first.kill()
    second = site.worker()
    events = await site.finished(execution)
    assert of(events, StepCompleted, "a")[0].output["decision"] == "timeout"
    assert f"-{second.pid}-" in (await site.commits(execution))[-1].writer


# Triggers


async def test_a_trigger_resumes_the_waits_whose_match_holds(site: Installation):
    """Other waits stay; the sender receives the number of resumed steps."""
    site.worker()
    stored = await site.store(definition({"a": TRIGGERED}))
    mine, other = await site.start(stored, 1), await site.start(stored, 2)
    for execution in (mine, other):
        await site.waits(execution, ["a"])
    assert await site.signals.emit(TENANT, "po.approved", {"po": 3}) == 0
    assert await site.signals.emit(TENANT, "po.rejected", {"po": 1}) == 0
    assert await site.signals.emit(TENANT, "po.approved", {"po": 1, "by": "erp"}) == 1
    await site.finished(mine)
    assert (await site.state(mine)).output == {
        "a": {"decision": None, "data": None, "actor": None, "event": {"po": 1, "by": "erp"}}
    }
    assert (await site.state(other)).status == "paused"


async def test_a_match_may_name_outputs(site: Installation):
    """Values that the match names are taken from the execution, at any size."""
    site.worker(nodes="feature_functions")
    match = "event.text == nodes.small.output && size(nodes.large.output) == 299998"
    execution = await site.begin(
        {
            "small": {"type": "transform", "with": {"value": "it"}},
            "large": {"type": "test.large", "with": {"size": 300_000}},
            "a": {
                "type": "await",
                "needs": ["small", "large"],
                "with": {"triggers": ["t"], "match": match},
            },
        }
    )
    await site.waits(execution, ["a"])
    assert await site.signals.emit(TENANT, "t", {"text": "not it"}) == 0
    assert await site.signals.emit(TENANT, "t", {"text": "it"}) == 1
    await site.finished(execution)
    assert (await site.state(execution)).status == "completed"


async def test_an_await_that_looks_back_finds_a_trigger_that_came_before_it(site: Installation):
    """One without a lookback does not, and the first that matches is taken."""
    for number in (1, 2, 3):
        await site.signals.emit(TENANT, "po.approved", {"po": number % 2, "number": number})
    site.worker()
    late = {"type": "await", "with": {**TRIGGERED["with"], "lookback": "1h"}}  # type: ignore[dict-item]
    execution = await site.begin({"late": late, "plain": TRIGGERED}, 1)
    await site.until(execution, done("late"))
    await site.until(execution, paused())
    state = await site.state(execution)
    assert state.steps["late"].output["event"]["number"] == 1
    assert state.steps["plain"].status == "waiting"


async def test_a_trigger_between_the_commit_of_a_wait_and_its_index_entry_is_not_lost(
    site: Installation,
):
    """The sender finds no entry; the worker that writes the entry looks for the trigger."""
    execution = await site.prepare({"a": {"type": "await", "with": {"triggers": ["t"]}}})
    await commit_wait(site, execution, "a", ForSignal(triggers=["t"]))
    assert await site.signals.emit(TENANT, "t", {"n": 1}) == 0
    site.worker()
    await site.enqueue(execution)
    events = await site.finished(execution)
    assert of(events, StepCompleted, "a")[0].output["event"] == {"n": 1}
    assert types_of(events).count("command:requested") == 1


async def test_of_two_triggers_one_wins(site: Installation):
    """Both send at once; one learns that it resumed the step, the other that it did not."""
    site.worker()
    execution = await site.begin({"a": {"type": "await", "with": {"triggers": ["t", "u"]}}})
    await site.waits(execution, ["a"])
    sent = [site.signals.emit(TENANT, name, name) for name in ("t", "u")]
    matched = await asyncio.gather(*sent)
    assert sorted(matched) == [0, 1]
    events = await site.finished(execution)
    (signal,) = [event.data for event in events if isinstance(event, CommandRequested)]
    assert signal.procedure == ("t", "u")[matched.index(1)]
    assert of(events, StepCompleted, "a")[0].output["event"] == signal.procedure


async def test_a_workflow_may_send_what_another_awaits(site: Installation):
    """`emit` tells how many it resumed."""
    site.worker()
    receiver = await site.begin(
        {"a": {"type": "await", "with": {"triggers": ["t"]}}}, id="receiver"
    )
    await site.waits(receiver, ["a"])
    sender = await site.run({"a": {"type": "emit", "with": {"procedure": "t", "data": {"n": 1}}}})
    assert sender.output == {"a": {"matched": 1}}
    events = await site.finished(receiver)
    assert of(events, StepCompleted, "a")[0].output["event"] == {"n": 1}


# Workers come and go


async def test_a_waiting_execution_uses_no_drive_and_no_job(site: Installation):
    """The number of waiting executions does not matter."""
    port = free_port()
    site.worker(metrics_port=str(port), worker_threads="2")
    stored = await site.store(definition({"a": APPROVAL}))
    executions = [await site.start(stored) for _ in range(6)]
    for execution in executions:
        await site.until(execution, paused())
        await site.waits(execution, ["a"])
    await left_alone(port)
    for execution in executions:
        await decide(site, execution, Decision())
        await site.finished(execution)
    await left_alone(port)


async def test_a_signal_while_no_worker_runs_is_applied_by_the_next(site: Installation):
    """The caller is answered at once; the execution continues when a worker drives it."""
    first = site.worker()
    execution = await site.begin({"a": APPROVAL, "b": TRIGGERED}, 1)
    await site.until(execution, paused())
    await site.waits(execution, ["a", "b"])
    first.stop()
    await decide(site, execution, Decision("a", data={"x": 1}))
    assert await site.signals.emit(TENANT, "po.approved", {"po": 1}) == 1
    with pytest.raises(IllegalCommandError, match="already has its decision"):
        await decide(site, execution, Decision("a", "rejected"))
    site.worker()
    await site.finished(execution)
    state = await site.state(execution)
    assert state.status == "completed"
    assert state.steps["a"].output["data"] == {"x": 1}
    await site.waits(execution, [])


async def test_a_wait_survives_worker_after_worker(site: Installation):
    """The next driver changes neither the log nor the index."""
    execution = await site.begin({"a": APPROVAL})
    for how in ("kill", "stop", "kill"):
        worker = site.worker()
        await site.enqueue(execution)
        await site.waits(execution, ["a"])
        await site.until(execution, paused())
        getattr(worker, how)()
    site.worker()
    await decide(site, execution, Decision())
    events = await site.finished(execution)
    assert len(of(events, StepWaiting, "a")) == 1
    assert sum(isinstance(event, ExecutionPaused) for event in events) == 1


async def test_a_cancelled_wait_leaves_the_index(site: Installation):
    """Clients must not be shown a decision that cannot be made."""
    site.worker()
    execution = await site.begin({"a": APPROVAL, "b": TRIGGERED}, 1)
    await site.waits(execution, ["a", "b"])
    await site.commander.cancel(TENANT, execution)
    await site.waits(execution, [])
    await site.finished(execution)
    assert await site.signals.emit(TENANT, "po.approved", {"po": 1}) == 0


@pytest.mark.parametrize("registered", [True, False])
async def test_an_entry_that_a_dead_worker_left_goes_with_the_wait(
    site: Installation, registered: bool
):
    """Killed after the commit, before the entry or before its removal: the next one sees to it."""
    execution = await site.prepare({"a": {"type": "await", "with": {"triggers": ["t"]}}})
    entry = await commit_wait(site, execution, "a", ForSignal(triggers=["t"]))
    if registered:
        await site.waiting.put(TENANT, entry)
    await site.commander.resolve(TENANT, execution, Decision("a"))
    site.worker()
    await site.finished(execution)
    await site.waits(execution, [])

    async def has_no_pointer() -> bool:
        return await site.waiting.pointers(TENANT, "t") == []

    # They are removed after the entry.
    await polling.until(has_no_pointer)


async def test_an_entry_of_a_wait_that_ended_in_a_lost_commit_is_struck_out(site: Installation):
    """The step was completed and the worker killed at once: nothing in the log waits any more."""
    execution = await site.prepare({"a": {"type": "await"}, "b": {"needs": ["a"], **APPROVAL}})
    entry = await commit_wait(site, execution, "a", ForSignal())
    await site.waiting.put(TENANT, entry)
    await site.commander.resolve(TENANT, execution, Decision("a"))
    history = await site.log.load_newest(TENANT, execution)
    workflow = (await site.workflows.get(TENANT, "test")).definition
    batch = Scheduler(Plan(workflow), history.state).decide(time.time())
    assert types_of(batch) == ["step:completed a", "step:started b"]
    await site.append(execution, batch, history.last_sequence)
    site.worker()
    await site.waits(execution, ["b"])
