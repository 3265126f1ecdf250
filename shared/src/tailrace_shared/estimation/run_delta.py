"""Finished runs that are not in the stored history of their workflow yet.

Recording must be cheap, because every run pays for it.
"""

from typing import Final, Self

from tailrace_shared.estimation.run_history import (
    NODE_BINS,
    RUN_BINS,
    FailureCounts,
    NodeHistory,
    RunHistory,
    items_key,
)
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import parse_timestamp

_AWAIT: Final = "await"
"""The time of people's decisions says nothing about the speed of steps."""

_OUTCOMES: Final = ("completed", "failed", "cancelled")


class RunDelta:
    """Collects finished runs of one workflow."""

    def __init__(self) -> None:
        self._ended = [0, 0, 0]
        self._minutes: dict[int, list[int]] = {}
        self._durations = Sketch(RUN_BINS)
        self._steps = Sketch(RUN_BINS)
        self._work = Sketch(RUN_BINS)
        self._nodes: dict[str, Sketch] = {}
        self._types: dict[str, Sketch] = {}
        self._failures: dict[str, FailureCounts] = {}

    @property
    def node_count(self) -> int:
        """Number of nodes; memory grows with it."""
        return len(self._nodes) + len(self._failures)

    def record_run(self, state: ExecutionState) -> None:
        self._add_run(state)
        work = 0
        for step in state.steps.values():
            # An output that a rerun keeps is the work of another run.
            if step.kept_from is None:
                work += self._add_step(step)
        if state.status == "completed" and state.rerun_of is None:
            self._work.add(work)

    def _add_run(self, state: ExecutionState) -> None:
        if state.status not in _OUTCOMES or state.finished_at is None:
            return
        outcome = _OUTCOMES.index(state.status)
        self._ended[outcome] += 1
        minute = int(parse_timestamp(state.finished_at) // 60)
        self._minutes.setdefault(minute, [0, 0, 0])[outcome] += 1
        if state.status == "completed":
            self._durations.add(state.duration_ms or 0)

    def _add_step(self, step: StepState) -> int:
        """Add a step; return the time that it worked, in milliseconds."""
        node, bracket, _ = step.node_id.partition("[")
        name = items_key(node) if bracket else node
        if step.status == "success":
            self._add_success(name, step)
        elif step.status == "error":
            self._failures_of(name).failed += 1
        elif step.status == "skipped":
            self._failures_of(name).skipped += 1
        if retries := step.failures + step.crashes:
            self._failures_of(name).retries += retries
        return step.duration_ms or 0 if step.status == "success" and step.node_type != _AWAIT else 0

    def _add_success(self, name: str, step: StepState) -> None:
        milliseconds = step.duration_ms or 0
        sketch = self._nodes.get(name)
        if sketch is None:
            sketch = self._nodes[name] = Sketch(NODE_BINS)
        sketch.add(milliseconds)
        if step.node_type != _AWAIT:
            self._steps.add(milliseconds)
            of_type = self._types.get(step.node_type)
            if of_type is None:
                of_type = self._types[step.node_type] = Sketch(RUN_BINS)
            of_type.add(milliseconds)
        if step.begun_at != step.started_at and step.begun_at and step.started_at:
            lost = parse_timestamp(step.started_at) - parse_timestamp(step.begun_at)
            self._failures_of(name).lost_ms += max(0, round(lost * 1000))

    def _failures_of(self, name: str) -> FailureCounts:
        failures = self._failures.get(name)
        if failures is None:
            failures = self._failures[name] = FailureCounts()
        return failures

    def merge(self, other: Self) -> None:
        self._ended = [mine + more for mine, more in zip(self._ended, other._ended, strict=True)]
        for minute, ended in other._minutes.items():
            known = self._minutes.setdefault(minute, [0, 0, 0])
            known[:] = [mine + more for mine, more in zip(known, ended, strict=True)]
        for mine, more in (
            (self._durations, other._durations),
            (self._steps, other._steps),
            (self._work, other._work),
        ):
            mine.merge(more)
        for known_sketches, more_sketches in (
            (self._nodes, other._nodes),
            (self._types, other._types),
        ):
            for name, sketch in more_sketches.items():
                known_sketches.setdefault(name, Sketch()).merge(sketch)
        for name, failures in other._failures.items():
            self._failures_of(name).add(failures)

    def clear_nodes(self) -> None:
        """Drop the nodes, which ``add_to_nodes`` has stored, and keep the runs."""
        self._nodes, self._types, self._failures = {}, {}, {}
        self._work = Sketch(RUN_BINS)

    def add_to_runs(self, history: RunHistory) -> None:
        completed, failed, cancelled = self._ended
        history.completed += completed
        history.failed += failed
        history.cancelled += cancelled
        for minute, ended in self._minutes.items():
            known = history.minutes.get(minute, (0, 0, 0))
            history.minutes[minute] = (
                known[0] + ended[0],
                known[1] + ended[1],
                known[2] + ended[2],
            )
        history.durations = _joined(history.durations, self._durations, RUN_BINS)
        history.steps = _joined(history.steps, self._steps, RUN_BINS)
        history.decay()

    def add_to_nodes(self, history: NodeHistory) -> None:
        for node, sketch in self._nodes.items():
            history.durations[node] = _joined(history.durations.get(node, []), sketch, NODE_BINS)
        for name, sketch in self._types.items():
            history.types[name] = _joined(history.types.get(name, []), sketch, RUN_BINS)
        history.work = _joined(history.work, self._work, RUN_BINS)
        for node, failures in self._failures.items():
            history.failures.setdefault(node, FailureCounts()).add(failures)
        history.decay()


def _joined(packed: list[int], sketch: Sketch, bins: int) -> list[int]:
    if not packed:
        return sketch.pack()
    joined = Sketch.unpack(packed, bins)
    joined.merge(sketch)
    return joined.pack()
