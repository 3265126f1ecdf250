"""Executions that are paused, resumed and cancelled, at every stage of their lives."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, done, of, paused, running, types_of, waiting
from harness.processes.installation import TENANT, Installation
from tailrace_shared.commands.execution_commands import Decision
from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    ExecutionCancelled,
    ExecutionPaused,
    StepCompleted,
    StepStarted,
    StepWaiting,
)
from tailrace_shared.execution.state import ExecutionState

NODES = {"nodes": "feature_functions"}
APPROVAL = {"type": "await"}


def until(folder: Path, file: str = "go", kind: str = "test.until") -> dict[str, Any]:
    """Return a node that runs until there is a file."""
    return {"type": kind, "with": {"folder": str(folder), "file": file}}


def notes(folder: Path) -> Counter[str]:
    """Return what the node functions have noted, and how often."""
    return Counter((folder / "notes").read_text().splitlines())


async def child_of(site: Installation, execution: str, step: str = "a") -> str:
    """Return the child run that a step waits for, as soon as it exists."""
    events = await site.until(execution, waiting(step))
    child: str = of(events, StepWaiting, step)[-1].child_execution_id
    await site.until(child, bool)
    return child


def commands(events: list[Event]) -> list[str]:
    """Return which commands a log holds."""
    return [event.data.command for event in events if isinstance(event, CommandRequested)]


async def cancelled(site: Installation, execution: str) -> ExecutionState:
    """Wait for the end of an execution, which is to be cancelled; return its state."""
    events = await site.finished(execution)
    assert isinstance(events[-1], ExecutionCancelled)
    return await site.state(execution)


# Pause and resume


async def test_what_runs_finishes_in_a_paused_execution_and_nothing_new_starts(
    site: Installation, tmp_path: Path
):
    """It is paused when the last running step has ended; a resume goes on at once."""
    site.worker(**NODES)
    execution = await site.begin({"a": until(tmp_path), "b": {"needs": ["a"]}})
    await site.until(execution, running("a"))
    await site.commander.pause(TENANT, execution)
    assert not paused()(await site.events(execution))
    (tmp_path / "go").touch()
    events = await site.until(execution, paused())
    assert types_of(events)[-3:] == ["command:requested", "step:completed a", "execution:paused"]
    (pause,) = [event.data for event in events if isinstance(event, ExecutionPaused)]
    assert (pause.reason, pause.requested) == ("requested", True)
    await site.commander.resume(TENANT, execution)
    events = await site.finished(execution)
    assert types_of(events)[-5:] == [
        "command:requested",
        "execution:resumed",
        "step:started b",
        "step:completed b",
        "execution:completed",
    ]


async def test_timers_do_not_fire_in_a_paused_execution(site: Installation, tmp_path: Path):
    """This holds for delays, retries and timeouts; due timers fire after the resume."""
    site.worker(**NODES)
    retry = {"max_attempts": 2, "initial": "100ms", "jitter": False}
    flaky = {"type": "test.times", "with": {"folder": str(tmp_path), "fails": 1}, "retry": retry}
    execution = await site.begin(
        {
            "delay": {"type": "delay", "with": {"duration": "100ms"}},
            "await": {**APPROVAL, "timeout": "100ms", "on_timeout": "continue"},
            "flaky": flaky,
            "busy": until(tmp_path),
        }
    )
    await site.commander.pause(TENANT, execution)
    await site.until(
        execution, lambda events: "step:started busy" in types_of(events) or paused()(events)
    )
    (tmp_path / "go").touch()
    held = await site.until(execution, paused())
    # All timers are due by the time that another execution has waited as long, and longer.
    await site.run({"a": {"type": "delay", "with": {"duration": "300ms"}}}, id="clock")
    assert await site.events(execution) == held
    await site.commander.resume(TENANT, execution)
    await site.finished(execution)
    state = await site.state(execution)
    assert state.status == "completed"
    assert state.steps["await"].output["decision"] == "timeout"


async def test_a_run_that_is_paused_before_it_starts_starts_nothing(site: Installation):
    """It is shown as paused, not as queued."""
    execution = await site.prepare({"a": {}})
    await site.commander.pause(TENANT, execution)
    site.worker()
    events = await site.until(execution, paused())
    assert types_of(events)[1:] == ["command:requested", "execution:started", "execution:paused"]
    await site.commander.resume(TENANT, execution)
    await site.finished(execution)
    assert (await site.state(execution)).status == "completed"


async def test_pausing_twice_is_pausing_once_and_so_is_resuming(site: Installation):
    """A paused execution stays paused; one that is not paused cannot be resumed."""
    site.worker()
    execution = await site.prepare({"a": APPROVAL, "b": {"needs": ["a"]}})
    await asyncio.gather(*(site.commander.pause(TENANT, execution) for _ in range(3)))
    await site.until(execution, paused())
    state = (await site.commander.pause(TENANT, execution)).state
    assert state.status == "paused"
    await site.commander.resume(TENANT, execution)
    await site.until(execution, paused(2))
    assert commands(await site.events(execution)) == ["pause", "resume"]
    # No request holds it: it waits for a decision, which is what a resume makes.
    await site.commander.resume(TENANT, execution)
    await site.finished(execution)
    assert commands(await site.events(execution)) == ["pause", "resume", "resolve"]


async def test_commands_that_a_state_does_not_allow_are_refused_with_the_reason(
    site: Installation, tmp_path: Path
):
    """The error message is for the caller."""
    site.worker(**NODES)
    execution = await site.begin({"a": until(tmp_path)})
    await site.until(execution, running("a"))
    with pytest.raises(IllegalCommandError, match="is running; none of its steps waits"):
        await site.commander.resume(TENANT, execution)
    with pytest.raises(IllegalCommandError, match="the step 'a' is running"):
        await site.commander.resolve(TENANT, execution, Decision("a"))
    (tmp_path / "go").touch()
    await site.finished(execution)
    with pytest.raises(
        IllegalCommandError, match="is completed; only a running execution can be paused"
    ):
        await site.commander.pause(TENANT, execution)
    with pytest.raises(IllegalCommandError, match="is completed"):
        await site.commander.resume(TENANT, execution)
    with pytest.raises(IllegalCommandError, match="only a running execution can be cancelled"):
        await site.commander.cancel(TENANT, execution)
    assert commands(await site.events(execution)) == []


async def test_a_signal_for_a_paused_execution_is_applied_after_its_resume(site: Installation):
    """It is accepted at once, and no other decision is accepted after it."""
    site.worker()
    execution = await site.begin({"a": APPROVAL, "b": {"needs": ["a"]}})
    await site.waits(execution, ["a"])
    await site.commander.pause(TENANT, execution)
    await site.until(execution, paused(2))
    await site.commander.resolve(TENANT, execution, Decision("a", data=1))
    with pytest.raises(IllegalCommandError, match="already has its decision"):
        await site.commander.resolve(TENANT, execution, Decision("a", data=2))
    assert not done("a")(await site.events(execution))
    await site.commander.resume(TENANT, execution)
    events = await site.finished(execution)
    assert of(events, StepCompleted, "a")[0].output["data"] == 1
    assert commands(events) == ["pause", "resolve", "resume"]


async def test_a_paused_execution_can_be_cancelled(site: Installation):
    """A decision that was made during the pause still counts."""
    site.worker()
    execution = await site.begin({"a": APPROVAL, "b": {"needs": ["a"]}})
    await site.waits(execution, ["a"])
    await site.commander.pause(TENANT, execution)
    await site.until(execution, paused(2))
    await site.commander.resolve(TENANT, execution, Decision("a"))
    await site.commander.cancel(TENANT, execution, "enough")
    state = await cancelled(site, execution)
    assert state.error == "enough"
    assert state.steps["a"].status == "success"
    assert "b" not in state.steps
    await site.waits(execution, [])


async def test_a_child_run_that_ends_while_its_parent_is_paused_counts_after_the_resume(
    site: Installation, tmp_path: Path
):
    """The child itself goes on: a pause is the parent's own."""
    site.worker(**NODES)
    await site.store(definition({"x": until(tmp_path)}, id="child"))
    execution = await site.begin({"a": {"type": "workflow", "with": {"id": "child"}}})
    child = await child_of(site, execution)
    await site.until(child, running("x"))
    await site.commander.pause(TENANT, execution)
    await site.until(execution, paused())
    (tmp_path / "go").touch()
    await site.finished(child)
    await site.commander.resume(TENANT, execution)
    events = await site.finished(execution)
    assert of(events, StepCompleted, "a")[0].output == {"x": 1}
    assert types_of(events).index("step:completed a") > types_of(events).index("execution:resumed")


async def test_a_pause_outlives_the_worker(site: Installation, tmp_path: Path):
    """The next driver reads from the log that nothing may start."""
    first = site.worker(**NODES)
    execution = await site.begin({"a": until(tmp_path), "b": {"needs": ["a"]}})
    await site.until(execution, running("a"))
    await site.commander.pause(TENANT, execution)
    first.kill()
    site.worker(**NODES)
    # The lost attempt has ended; its repetition would be something new.
    events = await site.until(execution, paused())
    assert types_of(events)[-2:] == ["step:retrying a", "execution:paused"]
    (tmp_path / "go").touch()
    await site.commander.resume(TENANT, execution)
    await site.finished(execution)
    assert (await site.state(execution)).steps["a"].attempt == 2


# Cancel


@pytest.mark.parametrize("kind", ["test.until", "test.until_in_thread"])
async def test_functions_learn_that_they_are_cancelled_and_may_end_by_themselves(
    site: Installation, tmp_path: Path, kind: str
):
    """On the loop and on threads; what they still return counts."""
    site.worker(**NODES)
    execution = await site.begin({"a": until(tmp_path, kind=kind), "b": {"needs": ["a"]}})
    await site.until(execution, running("a"))
    await site.commander.cancel(TENANT, execution, "enough")
    state = await cancelled(site, execution)
    assert notes(tmp_path) == {"began a 1": 1, "cancelled a 1": 1}
    assert state.steps["a"].status == "success"
    assert state.error == "enough"
    assert "b" not in state.steps


async def test_a_function_that_does_not_listen_is_interrupted_after_the_grace(
    site: Installation, tmp_path: Path
):
    """It takes the context, so it gets the time; then its task ends."""
    site.worker(**NODES, cancel_grace="300ms")
    execution = await site.begin(
        {
            "deaf": {"type": "test.deaf", "with": {"folder": str(tmp_path)}},
            "plain": {"type": "test.forever"},
        }
    )
    await site.until(execution, running("deaf"))
    await site.until(execution, begun("plain"))
    await site.commander.cancel(TENANT, execution)
    state = await cancelled(site, execution)
    assert {step.status for step in state.steps.values()} == {"cancelled"}
    assert notes(tmp_path)["interrupted deaf 1"] == 1


async def test_child_runs_are_cancelled_with_their_parent_at_any_depth(
    site: Installation, tmp_path: Path
):
    """Each says whose end it shares, and the innermost stops what it runs."""
    site.worker(**NODES)
    await site.store(definition({"x": until(tmp_path)}, id="inner"))
    await site.store(definition({"a": {"type": "workflow", "with": {"id": "inner"}}}, id="middle"))
    execution = await site.begin({"a": {"type": "workflow", "with": {"id": "middle"}}})
    middle = await child_of(site, execution)
    inner = await child_of(site, middle)
    await site.until(inner, running("x"))
    await site.commander.cancel(TENANT, execution, "enough")
    assert (await cancelled(site, execution)).error == "enough"
    assert (await cancelled(site, middle)).error == f"its parent {execution} was cancelled"
    assert (await cancelled(site, inner)).error == f"its parent {middle} was cancelled"
    assert notes(tmp_path)["cancelled x 1"] == 1


async def test_no_child_run_outlives_a_cancel_that_comes_while_it_is_created(
    site: Installation, tmp_path: Path
):
    """Many at once, cancelled at every moment of their beginning."""
    site.worker(**NODES)
    site.worker(**NODES)
    await site.store(definition({"x": until(tmp_path)}, id="child"))
    stored = await site.store(definition({"a": {"type": "workflow", "with": {"id": "child"}}}))

    async def one() -> str:
        execution = await site.start(stored)
        await site.until(execution, waiting("a"))
        await site.commander.cancel(TENANT, execution)
        return execution

    executions = await asyncio.gather(*(one() for _ in range(12)))
    for execution in executions:
        events = await site.finished(execution)
        child = of(events, StepWaiting, "a")[0].child_execution_id
        if await site.log.last_commit(TENANT, child) is not None:
            await cancelled(site, child)


async def test_a_run_that_is_cancelled_before_it_starts_never_starts(site: Installation):
    """None of its steps starts."""
    execution = await site.prepare({"a": {}})
    await site.commander.cancel(TENANT, execution, "enough")
    site.worker()
    events = await site.finished(execution)
    assert types_of(events)[1:] == ["command:requested", "execution:cancelled"]


async def test_a_run_that_stands_in_line_can_be_cancelled(site: Installation, tmp_path: Path):
    """It leaves the queue, and the executions behind it start."""
    site.worker(**NODES)
    stored = await site.store(definition({"a": until(tmp_path)}, concurrency={"limit": 1}))
    first = await site.start(stored)
    await site.until(first, running("a"))
    second, third = await site.start(stored), await site.start(stored)
    await site.commander.cancel(TENANT, second, "enough")
    assert not begun("a")(await site.finished(second))
    (tmp_path / "go").touch()
    await site.finished(first)
    events = await site.finished(third)
    assert len(of(events, StepStarted, "a")) == 1


async def test_a_cancel_and_an_approval_that_race_leave_one_truth(site: Installation):
    """Whichever is first in the log, the execution is cancelled and the log is legal."""
    site.worker()
    stored = await site.store(definition({"a": APPROVAL, "b": {"needs": ["a"]}}))
    for _ in range(5):
        execution = await site.start(stored)
        await site.until(execution, paused())
        asked = await asyncio.gather(
            site.commander.cancel(TENANT, execution),
            site.commander.resolve(TENANT, execution, Decision("a")),
            return_exceptions=True,
        )
        await site.finished(execution)
        state = await site.state(execution)
        accepted = commands(await site.events(execution))
        if isinstance(asked[1], IllegalCommandError):
            assert accepted == ["cancel"]
            assert state.steps["a"].status == "cancelled"
        else:
            assert "resolve" in accepted
            assert state.steps["a"].status == "success"
