"""How long an execution still takes: the longest path of what is left, at the pace so far.

A step is expected to take as long as the finished steps of its node type took on average, or,
where none has finished yet, as all finished steps. That nothing else holds steps back is assumed,
so the estimate is low when workers are busy. Time in which people decide is not counted at all.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Final

from tailrace_shared.execution.events import parse_timestamp
from tailrace_shared.execution.state import SETTLED, ExecutionState, StepState
from tailrace_shared.workflow.graph import Graph

_AWAIT: Final = "await"


def remaining_seconds(
    graph: Graph, node_types: Mapping[str, str], state: ExecutionState, now: float
) -> float | None:
    """Return the seconds until the execution ends; None while nothing is known.

    Args:
        graph: the workflow's.
        node_types: the type of each node.
        state: what has happened.
        now: seconds since the epoch.
    """
    if state.is_terminal:
        return 0.0
    pace = _pace(state)
    if pace is None:
        return None
    ends: dict[str, float] = {}
    for node in graph.order:
        begins = max((ends[need] for need in graph.needs[node]), default=0.0)
        ends[node] = begins + _left(state.steps.get(node), pace(node_types[node]), now)
    return max(ends.values(), default=0.0)


def _pace(state: ExecutionState) -> Callable[[str], float] | None:
    durations: dict[str, list[float]] = defaultdict(list)
    for step in state.steps.values():
        if step.status == "success" and step.duration_ms is not None and step.node_type != _AWAIT:
            durations[step.node_type].append(step.duration_ms / 1000)
    if not durations:
        return None
    overall = fmean(seconds for of_type in durations.values() for seconds in of_type)
    means = {node_type: fmean(of_type) for node_type, of_type in durations.items()} | {_AWAIT: 0.0}
    return lambda node_type: means.get(node_type, overall)


def _left(step: StepState | None, expected: float, now: float) -> float:
    if step is None or step.status == "pending":
        return expected
    if step.status in SETTLED:
        return 0.0
    if step.status == "running":
        elapsed = now - parse_timestamp(step.started_at) if step.started_at else 0.0
        return max(expected - elapsed, 0.0)
    if step.waiting is not None and step.waiting.wait != "time":
        # Nobody knows when somebody decides; that a time out ends the wait is no plan.
        return expected if step.waiting.wait in {"child", "actor"} else 0.0
    until_due = max((step.due or now) - now, 0.0)
    return until_due + (expected if step.status == "retrying" else 0.0)
