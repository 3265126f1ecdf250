"""A step whose worker is killed is retried, or fails, by its crash policy."""

from collections import Counter
from pathlib import Path
from typing import Any

from harness.models.log_conditions import of, running
from harness.processes.installation import Installation
from tailrace_shared.execution.events import StepFailed, StepRetrying

NODES = {"nodes": "feature_functions,node_functions"}


def until(folder: Path, **fields: Any) -> dict[str, Any]:
    """Return work that runs until there is a file."""
    return {"type": "test.until", "with": {"folder": str(folder)}, **fields}


def attempts(folder: Path) -> Counter[str]:
    """Return which attempts have begun, and how often."""
    lines = (folder / "notes").read_text().splitlines()
    return Counter(line.removeprefix("began ") for line in lines if line.startswith("began"))


async def test_a_step_is_repeated_when_its_worker_is_killed(site: Installation, tmp_path: Path):
    """Another worker makes another attempt, and no failure is counted."""
    site.worker(**NODES)
    execution = await site.begin({"a": until(tmp_path, retry={"max_attempts": 1})})
    await site.until(execution, running("a"))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.steps["a"].attempt, state.steps["a"].failures) == (
        "completed",
        2,
        0,
    )
    assert of(events, StepRetrying, "a")[0].cause == "crash"
    assert attempts(tmp_path) == {"a 1": 1, "a 2": 1}


async def test_a_step_that_must_not_be_repeated_fails_when_its_worker_is_killed(
    site: Installation, tmp_path: Path
):
    """At any retry policy; steps beside it that may be repeated are retried."""
    site.worker(**NODES)
    execution = await site.begin(
        {
            "once": until(tmp_path, on_crash="fail", retry={"max_attempts": 5}),
            "again": until(tmp_path),
            "after": {"needs": ["once"]},
        }
    )
    await site.until(execution, running("once", "again"))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    await site.finished(execution)
    state = await site.state(execution)
    assert state.error == "once: its worker was lost, and on_crash is fail"
    statuses = {node: step.status for node, step in state.steps.items()}
    assert statuses == {"once": "error", "again": "success", "after": "skipped"}
    assert attempts(tmp_path) == {"once 1": 1, "again 1": 1, "again 2": 1}


async def test_items_of_a_map_have_a_crash_policy_of_their_own(site: Installation, tmp_path: Path):
    """Those that had not begun run on the next worker."""
    site.worker(**NODES)
    work = {
        "for_each": "[0, 1, 2]",
        "max_parallel": 2,
        "on_error": "collect",
        "do": until(tmp_path, on_crash="fail"),
    }
    execution = await site.begin({"a": {"type": "map", "with": work}})
    await site.until(execution, running("a[0]", "a[1]"))
    (await site.driver(execution)).kill()
    (tmp_path / "go").touch()
    site.worker(**NODES)
    await site.finished(execution)
    lost = {"error": "its worker was lost, and on_crash is fail"}
    assert (await site.state(execution)).output == {"a": [lost, lost, 1]}
    assert set(attempts(tmp_path).values()) == {1}


async def test_a_step_that_waits_is_not_lost_with_a_worker(site: Installation):
    """Nothing of it runs: there is nothing that could happen twice."""
    first = site.worker()
    execution = await site.begin({"a": {"type": "await", "on_crash": "fail"}})
    await site.waits(execution, ["a"])
    first.kill()
    site.worker()
    await site.enqueue(execution)
    await site.commander.resume("default", execution)
    await site.finished(execution)
    assert (await site.state(execution)).status == "completed"


async def test_a_step_that_kills_worker_after_worker_fails(site: Installation):
    """The setting limits the number of lost workers; the next worker lives."""
    settings = {**NODES, "max_crashes": "2", "ack_wait": "1s"}
    workers = [site.worker(**settings) for _ in range(3)]
    execution = await site.begin({"a": {"type": "test.kill"}})
    events = await site.finished(execution)
    assert of(events, StepFailed, "a")[0].error == "its worker was lost 2 times while it ran"
    assert len(of(events, StepRetrying, "a")) == 1
    assert (await site.driver(execution)) in workers


async def test_a_hand_over_counts_as_a_loss_for_what_must_not_be_repeated(
    site: Installation, tmp_path: Path
):
    """The grace is over, the step had not ended, and its effects are unknown."""
    first = site.worker(**NODES, drain_grace="100ms")
    execution = await site.begin({"a": until(tmp_path, on_crash="fail")})
    await site.until(execution, running("a"))
    assert first.stop() == 0
    site.worker(**NODES)
    await site.finished(execution)
    assert (await site.state(execution)).error == "a: its worker is stopping, and on_crash is fail"
    assert attempts(tmp_path) == {"a 1": 1}
