"""Random workflows with every feature, and a naive model of how each of their steps must end.

The generator draws from a ``random.Random``: a seeded one, or hypothesis's, which shrinks. The
definition itself says how often a step fails: either fewer times than its retry policy allows, or
always. So the end of a step does not depend on workers, on the order, or on crashes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

import msgspec

from harness.models.log_reading import Record, map_work
from harness.models.run_rules import is_timeout
from tailrace_shared.execution.events import ExecutionFinishing
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter
from tailrace_shared.workflow.validation import validate

STEP: Final = "proof.step"
ACTOR: Final = "proof.actor"
ALWAYS: Final = 1000
"""Number of failures of a step that never succeeds."""

HANGS: Final = "100ms"
"""The time limit of a step that takes longer."""

PROCEDURE: Final = "proof.go"
LARGE_BYTES: Final = 300_000
"""Bytes of an output that is stored by reference."""

NODE_TYPES: Final = {
    **SHIPPED,
    STEP: NodeType(STEP, open=True),
    ACTOR: NodeType(ACTOR, open=True, actor=True),
    "proof.talk": NodeType("proof.talk", {"about": Parameter()}),
}
EVERY_KIND: Final[Mapping[str, int]] = {
    "step": 40,
    "transform": 12,
    "await": 8,
    "delay": 8,
    "map": 8,
    "actor": 8,
    "workflow": 6,
    "emit": 4,
    "fail": 3,
    "hang": 2,
    "large": 1,
}
EVERY_TIMEOUT: Final = ("continue", "continue", "fail", "cancel")


@dataclass(frozen=True)
class Mix:
    """The mix of nodes in random workflows.

    Attributes:
        kinds: the weight of each kind of node.
        folder: where steps note their effects; empty if the workflow is not run.
        slowest: the maximum duration of a step, in seconds.
        children: ids of workflows to run as children.
        longest_wait: the maximum timeout of an await, in seconds.
        condition: the probability that a node has a condition.
        timeouts: values of ``on_timeout`` to choose from.
        actors: whether items of maps may run on actors.
        groups: the probability of ``on_failure``, of ``finally`` and of a time limit.
        goes_on: the probability that the run goes on after a failure of a node.
        limits: time limits of workflows to choose from.
    """

    kinds: Mapping[str, int] = field(default_factory=lambda: dict(EVERY_KIND))
    folder: str = ""
    slowest: float = 0.05
    children: Sequence[str] = ("child",)
    longest_wait: float = 3.0
    condition: float = 0.15
    timeouts: Sequence[str] = ("continue", "continue", "continue", "fail", "fail")
    actors: bool = True
    groups: float = 0.2
    goes_on: float = 0.1
    limits: Sequence[str] = ("300ms", "2s", "1h")


def checked(document: Mapping[str, Any]) -> Definition:
    """Return a definition that may use the node types of these workflows."""
    validated = validate(dict(document), NODE_TYPES)
    assert validated.definition is not None, validated.problems
    return validated.definition


def random_workflow(
    source: Random, size: int, mix: Mix, workflow_id: str = "random", **fields: Any
) -> Definition:
    """Return a random workflow of ``size`` nodes."""
    nodes: dict[str, dict[str, Any]] = {}
    for index in range(size):
        nodes[f"n{index}"] = _node(source, index, mix)
    groups = _groups(source, mix)
    return checked({"id": workflow_id, "nodes": nodes, **groups, **fields})


def _groups(source: Random, mix: Mix) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for group, prefix in (("on_failure", "f"), ("finally", "z")):
        if source.random() < mix.groups:
            nodes = {}
            for index in range(source.randrange(1, 4)):
                node = _node(source, index, mix)
                node["needs"] = [f"{prefix}{need[1:]}" for need in node["needs"]]
                if "when" in node:
                    node["when"] = source.choice(["true", "false"])
                if node["type"] == "transform":
                    node["with"] = {"value": index}
                nodes[f"{prefix}{index}"] = node
            fields[group] = {"nodes": nodes}
    if "on_failure" in fields:
        fields["on_failure"]["then"] = source.choice(["failed", "completed"])
    if source.random() < mix.groups:
        fields["timeout"] = source.choice(mix.limits)
    return fields


def _node(source: Random, index: int, mix: Mix) -> dict[str, Any]:
    needs = _needs(source, index)
    kinds = [kind for kind, weight in mix.kinds.items() for _ in range(weight)]
    join = source.choice(["all", "all", "any", "all_done", "all_success"])
    node: dict[str, Any] = {"needs": needs, "join": join}
    if source.random() < mix.goes_on:
        node["on_error"] = "continue"
    if join != "any" and source.random() < mix.condition:
        choices = ["true", "false", "execution.id != ''"]
        choices += [f"nodes.{need}.status == 'success'" for need in needs[:2]]
        node["when"] = source.choice(choices)
    return {**node, **_KINDS[source.choice(kinds)](source, mix, needs)}


def _needs(source: Random, index: int) -> list[str]:
    if not index:
        return []
    most = index if source.random() < 0.03 else min(index, 3)
    count = source.randrange(most + 1)
    # Mostly the previous nodes, so that workflows become deep and not only wide.
    first = 0 if source.random() < 0.3 else max(0, index - 6)
    pool = range(first, index)
    return [f"n{need}" for need in sorted(source.sample(pool, min(count, len(pool))))]


def _transform(source: Random, _mix: Mix, needs: Sequence[str]) -> dict[str, Any]:
    value: Any = source.randrange(1000)
    if needs and source.random() < 0.3:
        value = {"copy": f"${{nodes.{needs[0]}.output}}"}
    return {"type": "transform", "with": {"value": value}}


def _delay(source: Random, _mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    return {"type": "delay", "with": {"duration": source.choice(["0s", "50ms", "300ms"])}}


def _workflow(source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    node = {"type": "workflow", "with": {"id": source.choice(mix.children)}}
    return {**node, **_retry(source, 0)}


def _emit(_source: Random, _mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    return {"type": "emit", "with": {"procedure": PROCEDURE, "data": {"n": 1}}}


def _fail(_source: Random, _mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    return {"type": "fail", "with": {"message": "failed as configured"}}


def _hang(_source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    return {"type": STEP, "with": {"folder": mix.folder, "seconds": 60}, "timeout": HANGS}


def _large(_source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    return {"type": STEP, "with": {"folder": mix.folder, "bytes": LARGE_BYTES}}


def _step(source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    fails = source.choice([0, 0, 0, 0, 1, 2, ALWAYS])
    seconds = source.choice([0, 0, mix.slowest / 5, mix.slowest])
    node: dict[str, Any] = {
        "type": STEP,
        "with": {"folder": mix.folder, "fails": fails, "seconds": seconds},
    }
    if source.random() < 0.1:
        node["on_crash"] = "fail"
    return {**node, **_retry(source, fails)}


def _actor(source: Random, mix: Mix, needs: Sequence[str]) -> dict[str, Any]:
    return {**_step(source, mix, needs), "type": ACTOR}


def _retry(source: Random, fails: int) -> dict[str, Any]:
    if not fails and source.random() < 0.7:
        return {}
    most = source.randrange(1, 4) + (fails if fails != ALWAYS else 0)
    initial = source.choice(["0s", "20ms", "100ms"])
    retry = {"max_attempts": most, "initial": initial, "jitter": source.random() < 0.5}
    return {"retry": retry}


def _await(source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"reason": "approval"}
    if source.random() < 0.5:
        parameters |= {"triggers": [PROCEDURE], "match": "event.n == 1"}
        if source.random() < 0.5:
            parameters["lookback"] = "1h"
    if source.random() < 0.4:
        parameters["on_reject"] = "fail"
    milliseconds = source.randrange(100, max(101, int(mix.longest_wait * 1000)))
    return {
        "type": "await",
        "with": parameters,
        "timeout": f"{milliseconds}ms",
        "on_timeout": source.choice(mix.timeouts),
    }


def _map(source: Random, mix: Mix, _needs: Sequence[str]) -> dict[str, Any]:
    count = source.choice([0, 1, 3, 5, 20])
    items = [source.choice([0, 0, 0, 0, 0, 1, ALWAYS]) for _ in range(count)]
    if source.random() < 0.5:
        items = [min(item, 1) for item in items]
    work_type = source.choice([STEP, STEP, "transform", ACTOR if mix.actors else STEP])
    work: dict[str, Any] = {
        "for_each": str(items),
        "do": {
            "type": work_type,
            "with": {"folder": mix.folder, "fails": "${item}"},
            "retry": {"max_attempts": 2, "initial": "10ms"},
        },
        "max_parallel": source.choice([1, 2, 10]),
        "on_error": source.choice(["fail", "collect"]),
    }
    if work_type == "transform":
        work["do"]["with"] = {"value": "${item}"}
    return {"type": "map", "with": work}


_Make = Callable[[Random, Mix, Sequence[str]], dict[str, Any]]
_KINDS: Final[Mapping[str, _Make]] = {
    "step": _step,
    "transform": _transform,
    "await": _await,
    "delay": _delay,
    "map": _map,
    "actor": _actor,
    "workflow": _workflow,
    "emit": _emit,
    "fail": _fail,
    "hang": _hang,
    "large": _large,
}

# The model

Ending = Literal["success", "error", "continued", "skipped", "unwanted"]


def expected_endings(nodes: Mapping[str, Node], observed: Mapping[str, bool]) -> dict[str, str]:
    """Return how every node of a part must end, from the definition alone.

    Args:
        nodes: the nodes of the part.
        observed: whether a node succeeded whose end the definition does not determine: awaits,
            child runs, and steps that were lost with a worker and must not be repeated.
    """
    endings: dict[str, str] = {}
    for node_id, node in nodes.items():  # in topological order
        endings[node_id] = _ending(node_id, node, endings, observed)
    return endings


def _ending(
    node_id: str, node: Node, endings: Mapping[str, str], observed: Mapping[str, bool]
) -> str:
    needs = [endings[need] for need in node.needs]
    wanted = {
        "all": all(need in {"success", "continued", "unwanted"} for need in needs),
        "any": not needs or not {"success", "continued"}.isdisjoint(needs),
        "all_done": True,
        "all_success": all(need in {"success", "continued"} for need in needs),
    }
    if not wanted[node.join]:
        return "skipped"
    if not _holds(node.when, endings):
        return "unwanted"
    succeeds = observed[node_id] if node_id in observed else _succeeds(node)
    return "success" if succeeds else "continued" if node.on_error == "continue" else "error"


def _holds(condition: str | None, endings: Mapping[str, str]) -> bool:
    match (condition or "true").split():
        case ["true"] | ["execution.id", "!=", "''"]:
            return True
        case ["false"]:
            return False
        case [name, "==", "'success'"]:
            return endings[name.split(".")[1]] == "success"
        case _:
            raise AssertionError(f"unknown condition: {condition}")


def _succeeds(node: Node) -> bool:
    match node.type:
        case "transform" | "delay" | "emit":
            return True
        case "fail":
            return False
        case "map":
            work = map_work(node)
            items = msgspec.json.decode(work.for_each)
            fails = [not _survives(work.do.node(), item) for item in items]
            return work.on_error == "collect" or work.do.type == "transform" or not any(fails)
        case _ if node.type in {STEP, ACTOR}:
            return node.timeout != HANGS and _survives(node, node.parameters.get("fails", 0))
        case _:
            raise AssertionError(f"the end of a node of type {node.type} must be observed")


def _survives(node: Node, fails: int) -> bool:
    attempts = node.retry.max_attempts if node.retry is not None else 1
    return fails < attempts


def wrong_endings(record: Record, state: ExecutionState) -> list[str]:
    """Return the nodes of an ended execution that ended differently from the model.

    Args:
        state: its folded state.
    """
    observed = {
        step.node_id: step.status == "success"
        for step in state.steps.values()
        if _is_undetermined(record.definition, step.node_id, state)
    }
    expected: dict[str, str] = {}
    definition = record.definition
    if not any(map(is_timeout, record.events)):
        expected |= expected_endings(definition.nodes, observed)
        fails = "error" in expected.values()
        if definition.on_failure is not None:
            begun = any(
                isinstance(event, ExecutionFinishing) and event.data.group == "on_failure"
                for event in record.events
            )
            if begun != fails:
                return [f"on_failure began: {begun}, although the main part failed: {fails}"]
            if begun:
                expected |= expected_endings(definition.on_failure.nodes, observed)
    if state.finishing is not None and state.finishing.group == "finally":
        expected |= expected_endings(definition.groups["finally"], observed)
    wrong = []
    for node_id, ending in expected.items():
        step = state.step(node_id)
        ended = "unwanted" if step.skipped_by_when else step.status
        if ended != ("error" if ending == "continued" else ending):
            wrong.append(f"{node_id} ended as {ended}, not as {ending}: {step.error}")
    return wrong


def _is_undetermined(definition: Definition, step_id: str, state: ExecutionState) -> bool:
    node_id, index = split_item_id(step_id)
    if index is not None:
        return False
    if definition.all_nodes[node_id].type in {"await", "workflow"}:
        return True
    error = state.steps[node_id].error or ""
    return "lost" in error or "on_crash" in error
