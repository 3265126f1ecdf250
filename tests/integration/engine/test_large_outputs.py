"""Outputs that are too large for an event: stored outside the log, and read back whole."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, of
from harness.processes.installation import Installation
from harness.processes.service import Service
from tailrace_shared.execution.evaluation import final_output
from tailrace_shared.execution.events import StepCompleted, StepFailed, StepStarted

NODES = {"nodes": "feature_functions"}
MIB = 1024 * 1024


def large(size: int = MIB, **fields: Any) -> dict[str, Any]:
    """Return a node whose output is ``size`` bytes of JSON."""
    return {"type": "test.large", "with": {"size": size}, **fields}


def length_of(node: str, *needs: str) -> dict[str, Any]:
    """Return a node that measures another's output."""
    value = f"${{size(nodes.{node}.output)}}"
    return {"type": "transform", "needs": [node, *needs], "with": {"value": value}}


def hold(folder: Path, *needs: str) -> dict[str, Any]:
    """Return a node that runs until there is a file."""
    return {"type": "test.until", "needs": list(needs), "with": {"folder": str(folder)}}


@pytest.mark.parametrize("size", [MIB, 10 * MIB])
async def test_expressions_see_a_large_output_whole(site: Installation, size: int):
    """The log holds a reference, at any size."""
    site.worker(**NODES)
    state = await site.run({"a": large(size), "b": length_of("a")})
    assert state.output == {"b": size - 2}
    assert state.steps["a"].output_ref is not None
    assert state.steps["a"].output_ref.bytes == size
    assert len(state.steps["a"].output) == size - 2
    assert sum(len(commit.payload) for commit in await site.commits(state.execution_id)) < 10_000


async def test_a_large_value_goes_from_node_to_node(site: Installation):
    """Parameters have no limit of their own."""
    site.worker(**NODES)
    passed_on = {"type": "transform", "needs": ["a"], "with": {"value": ["${nodes.a.output}", 1]}}
    state = await site.run({"a": large(), "b": passed_on, "c": length_of("b")})
    assert state.output == {"c": 2}
    assert len(state.steps["b"].output[0]) == MIB - 2


async def test_items_of_a_map_may_have_large_outputs(site: Installation):
    """Each is kept by itself; together they may be larger than any may be."""
    site.worker(**NODES, max_output_bytes=str(2 * MIB))
    work = {"type": "test.large", "with": {"size": "${item}"}}
    state = await site.run(
        {
            "a": {"type": "map", "with": {"for_each": "input", "do": work}},
            "b": {
                "type": "transform",
                "needs": ["a"],
                "with": {"value": "${nodes.a.output.map(each, size(each))}"},
            },
        },
        [MIB, 100, 2 * MIB, MIB],
    )
    assert state.output == {"b": [MIB - 2, 98, 2 * MIB - 2, MIB - 2]}


@pytest.mark.parametrize("size", [MIB, 10 * MIB])
async def test_a_child_runs_output_may_be_large(site: Installation, size: int):
    """Its parent's expressions see it whole."""
    site.worker(**NODES)
    await site.store(definition({"x": large(size)}, id="child"))
    state = await site.run(
        {
            "a": {"type": "workflow", "with": {"id": "child"}},
            "b": {
                "type": "transform",
                "needs": ["a"],
                "with": {"value": "${size(nodes.a.output.x)}"},
            },
        }
    )
    assert (state.error, state.output) == (None, {"b": size - 2})


async def test_the_final_output_may_be_large_where_it_is_the_leaves(site: Installation):
    """The last event omits it; readers of the execution assemble it."""
    site.worker(**NODES)
    workflow = definition({"a": large(), "b": large(300_000)})
    execution = await site.start(await site.store(workflow))
    await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.output, state.output_omitted) == ("completed", None, True)
    output = final_output(state, workflow)
    assert {node: len(text) for node, text in output.items()} == {"a": MIB - 2, "b": 299_998}


async def test_a_large_output_may_be_declared(site: Installation):
    """It follows from what the log holds, and is left out of the end like any other."""
    site.worker(**NODES)
    workflow = definition({"a": large()}, output=["${nodes.a.output}"])
    execution = await site.start(await site.store(workflow))
    await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.output, state.output_omitted) == ("completed", None, True)
    (text,) = final_output(state, workflow)
    assert len(text) == MIB - 2


@pytest.mark.parametrize("kind", ["node", "item", "child"])
async def test_an_output_over_the_limit_fails_the_step_with_both_numbers(
    site: Installation, kind: str
):
    """Of a node, of an item, and of a child run whose steps are small enough each."""
    site.worker(**NODES, max_output_bytes=str(MIB))
    size, step = MIB + 1, "a"
    nodes = {"a": large(size)}
    if kind == "item":
        work = {"for_each": "[0]", "do": large(size)}
        nodes, step = {"a": {"type": "map", "with": work}}, "a[0]"
    if kind == "child":
        await site.store(definition({"x": large(MIB // 2), "y": large(MIB // 2)}, id="child"))
        nodes, size = {"a": {"type": "workflow", "with": {"id": "child"}}}, MIB + len('{"x":,"y":}')
    state = await site.run(nodes)
    events = await site.events(state.execution_id)
    (end,) = of(events, StepFailed, step)
    assert str(size) in end.error
    assert str(MIB) in end.error


async def test_large_outputs_outlive_the_worker_that_made_them(site: Installation, tmp_path: Path):
    """Outputs that expressions name are fetched by the next driver."""
    site.worker(**NODES)
    execution = await site.begin({"a": large(), "b": hold(tmp_path, "a"), "c": length_of("a", "b")})
    await site.until(execution, begun("b"))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    assert of(events, StepCompleted, "c")[0].output == MIB - 2


@pytest.mark.parametrize("kind", ["node", "map", "child"])
async def test_a_large_output_that_nothing_names_ends_a_run_that_was_taken_over(
    site: Installation, tmp_path: Path, kind: str
):
    """It is part of the final output, which the reader assembles."""
    site.worker(**NODES)
    await site.store(definition({"x": large()}, id="child"))
    node = {
        "node": large(),
        "map": {"type": "map", "with": {"for_each": "[0, 1]", "do": large()}},
        "child": {"type": "workflow", "with": {"id": "child"}},
    }[kind]
    workflow = definition({"first": node, "then": hold(tmp_path, "first"), "a": node})
    execution = await site.start(await site.store(workflow))
    await site.until(execution, begun("then"))
    await site.until(execution, lambda events: bool(of(events, StepCompleted, "a")))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    await site.finished(execution)
    state = await site.state(execution)
    assert (state.status, state.output_omitted) == ("completed", True)
    assert set(final_output(state, workflow)) == {"a", "then"}


def peak_memory(worker: Service) -> int:
    """Return the most memory that a worker has had so far, in bytes."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(peak) * 1024


async def test_a_tenants_outputs_take_bounded_memory(site: Installation):
    """Steps beyond the limit fail and name it; stored outputs count no longer."""
    worker = site.worker(**NODES, max_tenant_pending_output_bytes=str(32 * MIB))
    await site.run({"a": large(4 * MIB)})
    before = peak_memory(worker)
    work = {"for_each": "[" + ",".join(["0"] * 60) + "]", "do": large(4 * MIB)}
    state = await site.run({"a": {"type": "map", "with": {**work, "max_parallel": 60}}})
    assert state.status == "failed"
    assert "33554432 (TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES)" in (state.error or "")
    assert peak_memory(worker) - before < 100 * MIB
    for _ in range(3):
        assert (await site.run({"a": large(16 * MIB)})).status == "completed"


async def test_outputs_that_expressions_name_count_while_their_run_is_driven(
    site: Installation, tmp_path: Path
):
    """By a worker that has taken the run over, too."""
    limits = {**NODES, "max_tenant_pending_output_bytes": str(16 * MIB)}
    site.worker(**limits)
    named = {"a": large(10 * MIB), "b": hold(tmp_path, "a"), "c": length_of("a", "b")}
    execution = await site.begin(named)
    await site.until(execution, begun("b"))
    refused = await site.run({"a": large(10 * MIB)})
    assert "TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES" in (refused.error or "")
    (await site.driver(execution)).kill()
    site.worker(**limits)
    await site.until(execution, lambda events: len(of(events, StepStarted, "b")) == 2)
    refused = await site.run({"a": large(10 * MIB)})
    assert "TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES" in (refused.error or "")
    (tmp_path / "go").touch()
    await site.finished(execution)
    assert (await site.run({"a": large(10 * MIB)})).status == "completed"
