"""Runs of ``tailrace.testing`` end as runs on a real worker do, step by step."""

import importlib.util
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import msgspec
import pytest

from harness.generators.random_workflows import EVERY_KIND, STEP, Mix, random_workflow
from harness.processes.installation import TENANT, Installation
from tailrace import testing
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.execution.events import (
    Event,
    ExecutionFinishing,
    StepEvent,
    StepLogged,
    StepProgressed,
)
from tailrace_shared.workflow.definition import Definition, decode_definition
from tailrace_shared.workflow.node_types import SHIPPED
from tailrace_shared.workflow.validation import validate
from tailrace_worker.nodes.node import declared_node

KINDS = {
    kind: weight
    for kind, weight in EVERY_KIND.items()
    # Triggers reach other runs of the tenant; actors and large outputs have other events.
    if kind not in {"emit", "workflow", "actor", "large"}
}
MIX = Mix(kinds=KINDS, longest_wait=0.5, actors=False, groups=0.4, limits=("1h",))

EVERYTHING: dict[str, Any] = {
    "id": "everything",
    "input": {"type": "object", "properties": {"n": {"type": "integer", "default": 2}}},
    "defaults": {"retry": {"max_attempts": 2, "initial": "10ms"}, "timeout": "1m"},
    "nodes": {
        "first": {"type": STEP, "with": {"fails": 1}},
        "report": {"type": "same.report", "needs": ["first"], "with": {"text": "n is ${input.n}"}},
        "key": {"type": "same.raise", "with": {"kind": "key"}, "on_error": "continue"},
        "final": {"type": "same.raise", "with": {"kind": "final"}, "on_error": "continue"},
        "exit": {"type": "same.raise", "with": {"kind": "exit"}, "on_error": "continue"},
        "unwanted": {"type": "transform", "when": "input.n > 2", "with": {"value": 1}},
        "strict": {"type": STEP, "needs": ["unwanted"], "join": "all_success"},
        "each": {
            "type": "map",
            "with": {
                "for_each": "[0, 1, 9]",
                "do": {"type": STEP, "with": {"fails": "${item}"}},
                "on_error": "collect",
            },
        },
        "child": {"type": "workflow", "with": {"id": "small", "input": {"n": "${input.n + 1}"}}},
        "ask": {
            "type": "await",
            "with": {"form": {"type": "object", "properties": {"ok": {"default": True}}}},
            "needs": ["report", "child", "each", "key", "final", "exit"],
        },
        "nap": {"type": "delay", "with": {"duration": "50ms"}, "needs": ["ask"]},
        "bad": {"type": "fail", "with": {"message": "as configured"}, "needs": ["nap"]},
        "never": {"type": STEP, "needs": ["bad"]},
    },
    "on_failure": {
        "then": "completed",
        "nodes": {"undo": {"type": "transform", "with": {"value": "${nodes.bad.error}"}}},
    },
    "finally": {"nodes": {"tidy": {"type": "log", "with": {"message": "${nodes.never.status}"}}}},
    "output": {"asked": "${nodes.ask.output}", "each": "${nodes.each.output}"},
}
SMALL = {
    "id": "small",
    "nodes": {"double": {"type": "transform", "with": {"value": "${input.n * 2}"}}},
}


@pytest.fixture(scope="module")
def functions() -> ModuleType:
    """The module whose functions both kinds of runs use."""
    path = Path(__file__).with_name("conformance_functions.py")
    spec = importlib.util.spec_from_file_location("conformance_functions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nodes_of(module: ModuleType) -> list[Any]:
    """Return the node functions of a module."""
    return [value for value in vars(module).values() if declared_node(value) is not None]


def checked(document: dict[str, Any], module: ModuleType) -> Definition:
    """Return a definition that may use the functions."""
    declared = [declared_node(function) for function in nodes_of(module)]
    from_module = {each.type.name: each.type for each in declared if each is not None}
    found = validate(document, {**SHIPPED, **from_module})
    assert found.definition is not None, found.problems
    return found.definition


def without_any(definition: Definition) -> Definition:
    """Return a workflow in which nothing depends on which of two steps ends first."""
    document = msgspec.json.decode(msgspec.json.encode(definition))
    for part in (document, document.get("on_failure"), document.get("finally")):
        for node in part["nodes"].values() if part else ():
            if node.get("join") == "any":
                del node["join"]
            if node["type"] == "map":
                node["with"]["max_parallel"] = 1
    return decode_definition(msgspec.json.encode(document))


def by_step(events: Iterable[Event]) -> dict[str, list[str]]:
    """Return what happened to each step, and which groups began."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for event in events:
        tag = str(type(event).__struct_config__.tag)
        if isinstance(event, StepEvent):
            # Reports have the order of their times, which may be the same.
            is_report = isinstance(event, StepProgressed | StepLogged)
            found[f"{event.data.node_id} {tag}" if is_report else event.data.node_id].append(tag)
        elif isinstance(event, ExecutionFinishing):
            found[""].append(f"{event.data.group} {event.data.outcome} {event.data.error_message}")
    return dict(found)


async def compare(site: Installation, execution: str, simulated: testing.Result) -> None:
    """Compare a run on a worker with a simulated one."""
    events = await site.finished(execution)
    state, other = await site.state(execution), simulated.state
    assert state.status == other.status
    assert strip(state.error, execution) == strip(other.error, other.execution_id)
    assert state.output == other.output
    assert by_step(events) == by_step(simulated.log)
    for step_id, step in state.steps.items():
        twin = other.steps[step_id]
        assert (step.status, step.attempt, step.output, step.skipped_by_when) == (
            twin.status,
            twin.attempt,
            twin.output,
            twin.skipped_by_when,
        ), step_id
        assert step.error == twin.error, step_id
        assert bool(step.error_detail) == bool(twin.error_detail), step_id


def strip(error: str | None, execution: str) -> str | None:
    """Return an error without the id of its run."""
    return None if error is None else error.replace(execution, "<id>")


async def test_a_workflow_with_every_feature_ends_alike(
    site: Installation, functions: ModuleType
) -> None:
    """Events, statuses, attempts, outputs and errors of each step."""
    site.worker(nodes="conformance_functions")
    await site.store(checked(SMALL, functions))
    stored = await site.store(checked(EVERYTHING, functions))
    execution = await site.start(stored, {"n": 2})
    await site.waits(execution, ["ask"])
    decision = Decision("ask", "approved", {})
    await site.commander.resolve(TENANT, execution, decision, Caller("ada"))
    simulated = testing.run(
        EVERYTHING,
        nodes=nodes_of(functions),
        workflows=[SMALL],
        script=[testing.approve("ask", {}, by="ada")],
    )
    await compare(site, execution, simulated)
    assert simulated.status == "completed"


async def test_random_workflows_end_alike(site: Installation, functions: ModuleType) -> None:
    """Joins, conditions, retries, timeouts, maps and groups."""
    site.worker(nodes="conformance_functions")
    workflows = [
        without_any(random_workflow(Random(seed), 9, MIX, f"random-{seed}")) for seed in range(10)
    ]
    executions = [await site.start(await site.store(workflow)) for workflow in workflows]
    for workflow, execution in zip(workflows, executions, strict=True):
        document = msgspec.json.decode(msgspec.json.encode(workflow))
        simulated = testing.run(document, None, nodes=nodes_of(functions))
        await compare(site, execution, simulated)
