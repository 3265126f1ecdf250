"""How long an execution still takes: what is left of it, played through a few times. Pure.

How long a node will take is not known, but how long it took in earlier runs is. So the rest of
the run is played several times, each node taking another of its durations each time, and the
median of the ends is the estimate. The longest path of median durations would be too low: where
a hundred nodes are joined, one of them is always late.

* A running step takes one of those durations that it has not exceeded yet. One that has exceeded
  all of them takes a share of its time again, and one that tells its percent is believed the more
  the further it is.
* Where this run's steps have been slower or faster than in earlier runs, so will be the rest.
* A node of which nothing is known takes as long as the steps of its type in this run, or in
  earlier ones, or as all steps in this run. Where nothing at all is known there is no estimate.
* A node that is skipped in some runs is skipped in as many of the plays.
* Time in which people decide is not counted, whatever it was in earlier runs.
* Nothing else is thought to hold steps back: the estimate is low where workers are too busy.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Final, NamedTuple

from tailrace_shared.estimation.duration_tables import DurationTables
from tailrace_shared.estimation.run_history import FailureCounts, NodeRecord, items_of
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.estimation.slowdown import Durations, Evidence, beyond
from tailrace_shared.execution.state import SETTLED, ExecutionState, StepState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.workflow.definition import Node
from tailrace_shared.workflow.graph import Graph

_AWAIT: Final = "await"
# Primes: each node goes through its durations in another order, and meets each of them once.
_PLAYS: Final = (17, 11, 7, 5, 3)
_WORK: Final = 20_000
"""Nodes and edges that an estimate may look at: some ten milliseconds."""
_STEP_WORK: Final = 5
_QUICK_WORK: Final = 10_000
"""The same, as far as it takes a few milliseconds; a step that has begun is so many of them."""
_TELLING: Final = 5.0
"""Percent from which on a step's own progress tells something."""


class _Pace(NamedTuple):
    """What this run has shown so far.

    Attributes:
        factor: how much slower it is than earlier runs.
        by_type: how long its steps took, by node type, where no record tells.
        overall: how long they took; None as long as none has ended.
        items: of each map, the items that have begun.
    """

    factor: float
    by_type: Mapping[str, float]
    overall: float | None
    items: Mapping[str, Sequence[StepState]]


class Estimator:
    """Estimates the executions of one version of a workflow.

    Args:
        graph: the version's.
        nodes: its nodes.
        record: what is remembered of earlier runs.
    """

    def __init__(
        self, graph: Graph, nodes: Mapping[str, Node], record: NodeRecord | None = None
    ) -> None:
        self._graph = graph
        self._nodes = nodes
        self._record = record or NodeRecord()
        self._size = len(nodes) + sum(len(needs) for needs in graph.needs.values())
        self._plays = next((n for n in _PLAYS if n * self._size <= _WORK), _PLAYS[-1])
        self._tables = DurationTables(self._record, nodes, self._plays)

    @property
    def has_history(self) -> bool:
        """Whether anything is remembered of earlier runs."""
        return bool(self._record.durations)

    def is_quick(self, state: ExecutionState) -> bool:
        """Tell whether an estimate takes so little time that a loop may make it."""
        return self._plays * self._size + _STEP_WORK * len(state.steps) <= _QUICK_WORK

    def prepare(self) -> None:
        """Look up now what all estimates need, in time that grows with the graph."""
        _ = self._whole

    def whole_run(self, state: ExecutionState, now: float) -> float | None:
        """Return how long an execution takes that is just beginning, in seconds."""
        # A rerun keeps some of its steps; any other begins like all others.
        return self._whole if state.rerun_of is None else self.remaining_seconds(state, now)

    @cached_property
    def _whole(self) -> float | None:
        return self.remaining_seconds(ExecutionState(status="running"), 0.0)

    def remaining_seconds(self, state: ExecutionState, now: float) -> float | None:
        """Return the seconds until an execution ends; None while nothing is known.

        Args:
            state: what has happened.
            now: seconds since the epoch.
        """
        if state.is_terminal:
            return 0.0
        pace = self._pace(state, now)
        left: dict[str, Durations] = {}
        for node in self._graph.order:
            step = state.steps.get(node)
            if step is None or step.status not in SETTLED:
                durations = self._left(node, step, pace, now)
                if durations is None:
                    return None
                left[node] = durations
        ends = sorted(self._play(left, play) for play in range(self._plays))
        return ends[len(ends) // 2]

    def _play(self, left: Mapping[str, Durations], play: int) -> float:
        ends: dict[str, float] = {}
        end_of = ends.get
        needs_of, nodes = self._graph.needs, self._nodes
        for node, durations in left.items():
            begins = 0.0
            if nodes[node].join == "any":
                begins = min((end_of(need, 0.0) for need in needs_of[node]), default=0.0)
            else:
                for need in needs_of[node]:
                    end = end_of(need, 0.0)
                    begins = max(end, begins)
            ends[node] = begins + durations[play]
        return max(ends.values(), default=0.0)

    def _pace(self, state: ExecutionState, now: float) -> _Pace:
        took: defaultdict[str, list[float]] = defaultdict(list)
        items: defaultdict[str, list[StepState]] = defaultdict(list)
        evidence = Evidence(self._tables.spread.request_reconcile)
        for step in state.steps.values():
            node, bracket, _ = step.node_id.partition("[")
            if bracket:
                items[node].append(step)
            seconds = self._shown(step, now)
            if seconds is None:
                continue
            if step.status == "success":
                took[step.node_type].append(seconds)
            table = self._tables.of(items_of(node) if bracket else node)
            if table is not None:
                evidence.add(seconds, table, is_over=step.status == "success")
        means = {node_type: fmean(seconds) for node_type, seconds in took.items()}
        every = [seconds for of_type in took.values() for seconds in of_type]
        return _Pace(evidence.factor(), means, fmean(every) if every else None, items)

    @staticmethod
    def _shown(step: StepState, now: float) -> float | None:
        """Return how long a step has worked; None where that tells nothing."""
        if step.node_type == _AWAIT or step.kept_from is not None:
            return None
        if step.status == "success" and step.duration_ms is not None:
            return step.duration_ms / 1000
        if step.status == "running" and step.items is None and step.started_at is not None:
            return max(now - parse_timestamp(step.started_at), 0.0)
        return None

    def _left(self, node: str, step: StepState | None, pace: _Pace, now: float) -> Durations | None:
        declared = self._nodes[node]
        if declared.type == _AWAIT:
            # Nobody knows when somebody decides; that a time out ends the wait is no plan.
            return [0.0] * self._plays
        if step is not None and step.items is not None and step.status == "running":
            return self._left_of_map(node, step, pace, now)
        expected = self._expected(node, declared.type, pace)
        if expected is None:
            return None
        if step is None or step.status == "pending":
            return self._with_trouble(node, expected, pace)
        return self._left_of_begun(step, expected, now)

    def _left_of_begun(self, step: StepState, expected: Durations, now: float) -> Durations:
        until_due = 0.0 if step.due is None else max(step.due - now, 0.0)
        wait = step.waiting.wait if step.waiting is not None else "time"
        match step.status, wait:
            case "retrying", _:
                return [until_due + seconds for seconds in expected]
            case "waiting", "signal":
                return [0.0] * self._plays
            case "waiting", "actor":
                return expected
            case "waiting", "time":
                return [until_due] * self._plays
            case _:  # it runs, or its child run does
                return self._left_of_running(step, expected, now)

    def _left_of_running(self, step: StepState, expected: Durations, now: float) -> Durations:
        elapsed = max(now - parse_timestamp(step.started_at), 0.0) if step.started_at else 0.0
        left = beyond(expected, elapsed)
        percent = min(step.percent or 0.0, 100.0)
        if percent < _TELLING:
            return left
        told, trust = elapsed * (100 - percent) / percent, percent / 100
        return [trust * told + (1 - trust) * seconds for seconds in left]

    def _left_of_map(self, node: str, step: StepState, pace: _Pace, now: float) -> Durations | None:
        """Return what is left of a map whose items are known: their work, shared by its lanes."""
        work = self._nodes[node].parameters
        expected = self._expected(items_of(node), str(work.get("do", {}).get("type", "")), pace)
        if expected is None:
            return None
        begun = pace.items.get(node, ())
        running = [
            self._left_of_begun(item, expected, now) for item in begun if item.status not in SETTLED
        ]
        to_come = len(step.items or ()) - len(begun)
        lanes = max(1, min(int(work.get("max_parallel", 10)), to_come + len(running)))
        ahead = to_come * fmean(expected)
        left: list[float] = []
        for play in range(self._plays):
            rests = [rest[play] for rest in running]
            last = expected[play] if to_come > 0 else 0.0
            left.append(max((ahead + sum(rests)) / lanes, last, *rests))
        return left

    def _with_trouble(self, node: str, expected: Durations, pace: _Pace) -> Durations:
        """Add what a node costs beside its last attempt; it costs nothing where it is skipped."""
        trouble = self._record.troubles.get(node)
        if trouble is None:
            return expected
        runs = Sketch.unpack(self._record.durations.get(node, ())).count
        # Retries take as long as they took; only the last attempt goes at this run's pace.
        extra = trouble.lost_ms / 1000 / runs * pace.factor if runs else 0.0
        skips = round(self._plays * _share_skipped(trouble, runs))
        # In an order of their own: it is not the shortest durations that are skipped.
        ranks = self._tables.order(f"{node}?")
        return [
            0.0 if rank < skips else seconds + extra
            for rank, seconds in zip(ranks, expected, strict=True)
        ]

    def _expected(self, name: str, node_type: str, pace: _Pace) -> Durations | None:
        table = self._tables.of(name)
        if table is None and node_type not in pace.by_type:
            table = self._tables.of_type(name, node_type)
        if table is not None:
            return [seconds * pace.factor for seconds in table]
        mean = pace.by_type.get(node_type, pace.overall)
        return None if mean is None else [mean] * self._plays


def remaining_seconds(
    graph: Graph,
    nodes: Mapping[str, Node],
    state: ExecutionState,
    now: float,
    record: NodeRecord | None = None,
) -> float | None:
    """Estimate once; see :class:`Estimator`."""
    return Estimator(graph, nodes, record).remaining_seconds(state, now)


def _share_skipped(trouble: FailureCounts, succeeded: int) -> float:
    runs = succeeded + trouble.failed + trouble.skipped
    return trouble.skipped / runs if runs else 0.0
