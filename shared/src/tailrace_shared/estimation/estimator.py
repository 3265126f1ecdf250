"""Estimate the remaining time of an execution by simulating the rest of it.

The duration of a node is unknown, but its durations in earlier runs are known. So the rest of the
run is simulated several times. Each simulation gives each node another of its durations, and the
estimate is the median of the simulated ends. The longest path of median durations would be too
low: where a hundred nodes join, one of them is always late.

* A running step takes one of the durations that it has not exceeded yet. A step that has exceeded
  all of them takes a share of its time again. A step that reports its percent is trusted more the
  further it is.
* If the steps of this run have been slower or faster than in earlier runs, the rest is as well.
* A node without history takes as long as the steps of its type in this run, or in earlier runs,
  or as all steps of this run. Without any of these there is no estimate.
* A node that is skipped in some runs is skipped in the same share of the simulations.
* Time in which people decide does not count, however long it was in earlier runs.
* Nothing else is assumed to delay steps, so the estimate is low while workers are overloaded.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Final, NamedTuple

from tailrace_shared.estimation.duration_tables import DurationTables
from tailrace_shared.estimation.run_history import FailureCounts, NodeHistory, items_key
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.estimation.slowdown import Durations, Slowdown, remaining_after
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.definition import Node
from tailrace_shared.workflow.graph import Graph

_AWAIT: Final = "await"
# Primes: each node goes through its durations in another order, and meets each of them once.
_SIMULATIONS: Final = (17, 11, 7, 5, 3)
_MAX_WORK: Final = 20_000
"""Nodes and edges that one estimate may visit: about ten milliseconds."""
_STEP_WORK: Final = 5
_QUICK_WORK: Final = 10_000
"""The limit for an estimate on the event loop: a few milliseconds. A step counts as
``_STEP_WORK`` nodes."""
_MIN_PERCENT: Final = 5.0
"""Percent from which a step's own progress is used."""


class _Observed(NamedTuple):
    """Facts about this run so far.

    Attributes:
        slowdown: the factor by which it is slower than earlier runs.
        mean_by_type: mean duration of its steps by node type, in seconds.
        mean: mean duration of all its steps; None until one has succeeded.
        items: for each map, the items that have started.
    """

    slowdown: float
    mean_by_type: Mapping[str, float]
    mean: float | None
    items: Mapping[str, Sequence[StepState]]


class Estimator:
    """Estimates the executions of one version of a workflow."""

    def __init__(
        self, graph: Graph, nodes: Mapping[str, Node], history: NodeHistory | None = None
    ) -> None:
        self._graph = graph
        self._nodes = nodes
        self._history = history or NodeHistory()
        self._size = len(nodes) + sum(len(needs) for needs in graph.needs.values())
        self._count = next(
            (n for n in _SIMULATIONS if n * self._size <= _MAX_WORK), _SIMULATIONS[-1]
        )
        self._tables = DurationTables(self._history, nodes, self._count)

    @property
    def has_history(self) -> bool:
        return bool(self._history.durations)

    def is_quick(self, state: ExecutionState) -> bool:
        """Tell whether an estimate is fast enough for the event loop."""
        return self._count * self._size + _STEP_WORK * len(state.steps) <= _QUICK_WORK

    def prepare(self) -> None:
        """Fill the caches that all estimates share; takes time that grows with the graph."""
        _ = self._whole_run

    def whole_run(self, state: ExecutionState, now: float) -> float | None:
        """Return the estimated duration of an execution that is just starting, in seconds."""
        # A rerun keeps the outputs of some steps; all other runs start alike.
        return self._whole_run if state.rerun_of is None else self.remaining_seconds(state, now)

    @cached_property
    def _whole_run(self) -> float | None:
        return self.remaining_seconds(ExecutionState(status="running"), 0.0)

    def remaining_seconds(self, state: ExecutionState, now: float) -> float | None:
        """Return the estimated seconds until an execution ends, or None without any data.

        Args:
            now: seconds since the epoch.
        """
        if state.is_terminal:
            return 0.0
        observed = self._observe(state, now)
        remaining: dict[str, Durations] = {}
        for node in self._graph.order:
            step = state.steps.get(node)
            if step is None or step.status not in SETTLED:
                durations = self._remaining(node, step, observed, now)
                if durations is None:
                    return None
                remaining[node] = durations
        ends = sorted(self._simulate(remaining, index) for index in range(self._count))
        return ends[len(ends) // 2]

    def _simulate(self, remaining: Mapping[str, Durations], index: int) -> float:
        ends: dict[str, float] = {}
        end_of = ends.get
        needs_of, nodes = self._graph.needs, self._nodes
        for node, durations in remaining.items():
            start = 0.0
            if nodes[node].join == "any":
                start = min((end_of(need, 0.0) for need in needs_of[node]), default=0.0)
            else:
                for need in needs_of[node]:
                    end = end_of(need, 0.0)
                    start = max(end, start)
            ends[node] = start + durations[index]
        return max(ends.values(), default=0.0)

    def _observe(self, state: ExecutionState, now: float) -> _Observed:
        by_type: defaultdict[str, list[float]] = defaultdict(list)
        items: defaultdict[str, list[StepState]] = defaultdict(list)
        slowdown = Slowdown(self._tables.variance.prior_steps)
        for step in state.steps.values():
            node, bracket, _ = step.node_id.partition("[")
            if bracket:
                items[node].append(step)
            seconds = self._worked(step, now)
            if seconds is None:
                continue
            if step.status == "success":
                by_type[step.node_type].append(seconds)
            table = self._tables.of_node(items_key(node) if bracket else node)
            if table is not None:
                slowdown.observe(seconds, table, has_ended=step.status == "success")
        means = {node_type: fmean(seconds) for node_type, seconds in by_type.items()}
        all_seconds = [seconds for of_type in by_type.values() for seconds in of_type]
        return _Observed(
            slowdown.factor(), means, fmean(all_seconds) if all_seconds else None, items
        )

    @staticmethod
    def _worked(step: StepState, now: float) -> float | None:
        """Return the seconds that a step has worked, or None if they tell nothing."""
        if step.node_type == _AWAIT or step.kept_from is not None:
            return None
        if step.status == "success" and step.duration_ms is not None:
            return step.duration_ms / 1000
        if step.status == "running" and step.items is None and step.started_at is not None:
            return max(now - parse_timestamp(step.started_at), 0.0)
        return None

    def _remaining(
        self, node: str, step: StepState | None, observed: _Observed, now: float
    ) -> Durations | None:
        declared = self._nodes[node]
        if declared.type == _AWAIT:
            # The time of a decision is unknown, and a timeout is not a plan.
            return [0.0] * self._count
        if step is not None and step.items is not None and step.status == "running":
            return self._remaining_map(node, step, observed, now)
        expected = self._expected(node, declared.type, observed)
        if expected is None:
            return None
        if step is None or step.status == "pending":
            return self._with_failures(node, expected, observed)
        return self._remaining_started(step, expected, now)

    def _remaining_started(self, step: StepState, expected: Durations, now: float) -> Durations:
        until_due = 0.0 if step.due is None else max(step.due - now, 0.0)
        wait = step.waiting.wait if step.waiting is not None else "time"
        match step.status, wait:
            case "retrying", _:
                return [until_due + seconds for seconds in expected]
            case "waiting", "signal":
                return [0.0] * self._count
            case "waiting", "actor":
                return expected
            case "waiting", "time":
                return [until_due] * self._count
            case _:  # the step or its child run is running
                return self._remaining_running(step, expected, now)

    def _remaining_running(self, step: StepState, expected: Durations, now: float) -> Durations:
        elapsed = max(now - parse_timestamp(step.started_at), 0.0) if step.started_at else 0.0
        remaining = remaining_after(expected, elapsed)
        percent = min(step.percent or 0.0, 100.0)
        if percent < _MIN_PERCENT:
            return remaining
        extrapolated, trust = elapsed * (100 - percent) / percent, percent / 100
        return [trust * extrapolated + (1 - trust) * seconds for seconds in remaining]

    def _remaining_map(
        self, node: str, step: StepState, observed: _Observed, now: float
    ) -> Durations | None:
        """Return the remaining time of an expanded map: its items, run ``max_parallel`` at once."""
        parameters = self._nodes[node].parameters
        item_type = str(parameters.get("do", {}).get("type", ""))
        expected = self._expected(items_key(node), item_type, observed)
        if expected is None:
            return None
        started = observed.items.get(node, ())
        running = [
            self._remaining_started(item, expected, now)
            for item in started
            if item.status not in SETTLED
        ]
        pending = len(step.items or ()) - len(started)
        parallel = max(1, min(int(parameters.get("max_parallel", 10)), pending + len(running)))
        pending_work = pending * fmean(expected)
        remaining: list[float] = []
        for index in range(self._count):
            rests = [rest[index] for rest in running]
            last = expected[index] if pending > 0 else 0.0
            remaining.append(max((pending_work + sum(rests)) / parallel, last, *rests))
        return remaining

    def _with_failures(self, node: str, expected: Durations, observed: _Observed) -> Durations:
        """Add the mean cost of retries, and skip the node in its share of the simulations."""
        failures = self._history.failures.get(node)
        if failures is None:
            return expected
        runs = Sketch.unpack(self._history.durations.get(node, ())).count
        extra = failures.lost_ms / 1000 / runs * observed.slowdown if runs else 0.0
        skips = round(self._count * _skipped_share(failures, runs))
        # A permutation of its own: skips must not hit the shortest durations only.
        ranks = self._tables.permutation(f"{node}?")
        return [
            0.0 if rank < skips else seconds + extra
            for rank, seconds in zip(ranks, expected, strict=True)
        ]

    def _expected(self, name: str, node_type: str, observed: _Observed) -> Durations | None:
        table = self._tables.of_node(name)
        if table is None and node_type not in observed.mean_by_type:
            table = self._tables.of_type(name, node_type)
        if table is not None:
            return [seconds * observed.slowdown for seconds in table]
        mean = observed.mean_by_type.get(node_type, observed.mean)
        return None if mean is None else [mean] * self._count


def _skipped_share(failures: FailureCounts, succeeded: int) -> float:
    runs = succeeded + failures.failed + failures.skipped
    return failures.skipped / runs if runs else 0.0
