"""Groups of nodes after the main part, and time limits of workflows, on real workers."""

from collections import Counter
from pathlib import Path
from typing import Any

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, running
from harness.processes.installation import TENANT, Installation
from tailrace_shared.execution.events import (
    Event,
    ExecutionFinishing,
    ExecutionStarted,
    Started,
    StepBegun,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.ids import new_execution_id

NODES = {"nodes": "feature_functions,node_functions"}


def until(folder: Path, file: str) -> dict[str, Any]:
    """Return a node that runs until there is a file."""
    return {"type": "test.until", "with": {"folder": str(folder), "file": file}}


def notes(folder: Path) -> Counter[str]:
    """Return what the node functions have noted, and how often."""
    return Counter((folder / "notes").read_text().splitlines())


async def test_finally_survives_the_death_of_its_worker_and_runs_once(
    site: Installation, tmp_path: Path
):
    """A cancel stops the main part; the step that had succeeded in the group is not repeated."""
    site.worker(**NODES)
    (tmp_path / "open").touch()
    tidy = {
        "first": until(tmp_path, "open"),
        "second": {**until(tmp_path, "go"), "needs": ["first"]},
    }
    execution = await site.begin({"slow": {"type": "test.forever"}}, **{"finally": {"nodes": tidy}})
    await site.until(execution, begun("slow"))
    await site.commander.cancel(TENANT, execution, "no longer needed")
    await site.until(execution, running("second"))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.error) == ("cancelled", "no longer needed")
    assert {node: step.status for node, step in state.steps.items()} == {
        "slow": "cancelled",
        "first": "success",
        "second": "success",
    }
    assert sum(isinstance(event, ExecutionFinishing) for event in events) == 1
    attempts = {line: n for line, n in notes(tmp_path).items() if line.startswith("began")}
    assert attempts == {
        "began first 1": 1,
        "began second 1": 1,
        "began second 2": 1,
    }


async def test_a_time_limit_stops_steps_and_child_runs(site: Installation):
    """The limit has passed when a worker takes over; on_failure makes the failure good."""
    await site.store(definition({"ask": {"type": "await"}}, id="child"))
    execution = await site.prepare(
        {
            "slow": {"type": "test.forever"},
            "child": {"type": "workflow", "with": {"id": "child"}},
        },
        timeout="1h",
        on_failure={
            "nodes": {"undo": {"type": "transform", "with": {"value": "${nodes.slow.status}"}}},
            "then": "completed",
        },
    )
    child = new_execution_id()
    wait = StepWait("child", "workflow", "waiting", wait="child", attempt=1)
    wait.child_execution_id, wait.child_workflow_id, wait.child_input = child, "child", {}
    stamp = "2024-01-01T00:00:00.000Z"
    begun: list[Event] = [
        ExecutionStarted(Started(execution, "running", stamp), stamp),
        StepStarted(StepBegun("slow", "test.forever", "running", 1, stamp), stamp),
        StepStarted(StepBegun("child", "workflow", "running", 1, stamp), stamp),
        StepWaiting(wait, stamp),
    ]
    await site.append(execution, begun, (await site.commits(execution))[-1].sequence)
    site.worker(**NODES)
    await site.enqueue(execution)
    events = await site.finished(execution)
    state = await site.state(execution)
    assert state.status == "completed"
    assert {node: step.status for node, step in state.steps.items()} == {
        "slow": "cancelled",
        "child": "cancelled",
        "undo": "success",
    }
    assert state.steps["undo"].output == "cancelled"
    (finishing,) = [event.data for event in events if isinstance(event, ExecutionFinishing)]
    assert finishing.error_message == "timed out after 1h"
    await site.finished(child)
    assert (await site.state(child)).status == "cancelled"
