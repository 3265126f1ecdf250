"""What finished runs add to the records of their workflow. Pure, and cheap: each run pays it."""

from typing import Final, Self

from tailrace_shared.estimation.run_history import (
    NODE_BINS,
    RUN_BINS,
    FailureCounts,
    NodeRecord,
    RunRecord,
    items_of,
)
from tailrace_shared.estimation.sketch import Sketch
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import parse_timestamp

_AWAIT: Final = "await"
"""How long people take to decide says nothing of how fast steps are."""

_ENDINGS: Final = ("completed", "failed", "cancelled")


class RunDelta:
    """What some runs of one workflow were like that no record tells yet."""

    def __init__(self) -> None:
        self._ended = [0, 0, 0]
        self._minutes: dict[int, list[int]] = {}
        self._durations = Sketch(RUN_BINS)
        self._steps = Sketch(RUN_BINS)
        self._work = Sketch(RUN_BINS)
        self._nodes: dict[str, Sketch] = {}
        self._types: dict[str, Sketch] = {}
        self._troubles: dict[str, FailureCounts] = {}

    @property
    def nodes(self) -> int:
        """How many nodes it knows: what it takes in memory grows with them."""
        return len(self._nodes) + len(self._troubles)

    def add(self, state: ExecutionState) -> None:
        """Take a run that has ended into account."""
        self._add_run(state)
        work = 0
        for step in state.steps.values():
            # What a rerun has kept was another run's work.
            if step.kept_from is None:
                work += self._add_step(step)
        if state.status == "completed" and state.rerun_of is None:
            self._work.add(work)

    def _add_run(self, state: ExecutionState) -> None:
        if state.status not in _ENDINGS or state.finished_at is None:
            return
        ending = _ENDINGS.index(state.status)
        self._ended[ending] += 1
        minute = int(parse_timestamp(state.finished_at) // 60)
        self._minutes.setdefault(minute, [0, 0, 0])[ending] += 1
        if state.status == "completed":
            self._durations.add(state.duration_ms or 0)

    def _add_step(self, step: StepState) -> int:
        """Take a step into account; returns how long it worked, in milliseconds."""
        node, bracket, _ = step.node_id.partition("[")
        name = items_of(node) if bracket else node
        if step.status == "success":
            self._add_success(name, step)
        elif step.status == "error":
            self._trouble(name).failed += 1
        elif step.status == "skipped":
            self._trouble(name).skipped += 1
        if retries := step.failures + step.crashes:
            self._trouble(name).retries += retries
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
            self._trouble(name).lost_ms += max(0, round(lost * 1000))

    def _trouble(self, name: str) -> FailureCounts:
        trouble = self._troubles.get(name)
        if trouble is None:
            trouble = self._troubles[name] = FailureCounts()
        return trouble

    def absorb(self, other: Self) -> None:
        """Take what another tally has noted into account."""
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
        for name, trouble in other._troubles.items():
            self._trouble(name).add(trouble)

    def forget_nodes(self) -> None:
        """Forget what ``add_to_nodes`` has told already, and keep what is known of runs."""
        self._nodes, self._types, self._troubles = {}, {}, {}
        self._work = Sketch(RUN_BINS)

    def add_to_runs(self, record: RunRecord) -> None:
        """Have a record tell of these runs as well."""
        completed, failed, cancelled = self._ended
        record.completed += completed
        record.failed += failed
        record.cancelled += cancelled
        for minute, ended in self._minutes.items():
            known = record.minutes.get(minute, (0, 0, 0))
            record.minutes[minute] = (
                known[0] + ended[0],
                known[1] + ended[1],
                known[2] + ended[2],
            )
        record.durations = _joined(record.durations, self._durations, RUN_BINS)
        record.steps = _joined(record.steps, self._steps, RUN_BINS)
        record.fade()

    def add_to_nodes(self, record: NodeRecord) -> None:
        """Have a record tell of these runs' nodes as well."""
        for node, sketch in self._nodes.items():
            record.durations[node] = _joined(record.durations.get(node, []), sketch, NODE_BINS)
        for name, sketch in self._types.items():
            record.types[name] = _joined(record.types.get(name, []), sketch, RUN_BINS)
        record.work = _joined(record.work, self._work, RUN_BINS)
        for node, trouble in self._troubles.items():
            record.troubles.setdefault(node, FailureCounts()).add(trouble)
        record.fade()


def _joined(packed: list[int], sketch: Sketch, bins: int) -> list[int]:
    if not packed:
        return sketch.pack()
    joined = Sketch.unpack(packed, bins)
    joined.merge(sketch)
    return joined.pack()
