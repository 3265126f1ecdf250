"""The errors of estimates after different numbers of runs of a recorded workflow.

Each task takes its recorded time multiplied by two lognormal factors: its own, and one that all
tasks of a run share. Both are seeded with the names of trace, run and task, so the results are the
same on every machine.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from harness.generators.workflows import definition
from harness.models.playback import DurationOf, Playback, moments
from tailrace.wfcommons import import_trace
from tailrace_shared.duration import Duration
from tailrace_shared.estimation import Estimator, NodeHistory, RunDelta
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.graph import graph_of
from tailrace_worker.engine.decide.plan import Plan

TRACES: Final = Path(__file__).parents[3] / "examples" / "traces"
SHARES: Final = (0.1, 0.25, 0.5, 0.75)
RUNS: Final = (0, 1, 2, 5, 10, 20, 50)


class Chance(msgspec.Struct, frozen=True):
    """The spread of durations.

    Attributes:
        task: standard deviation of the logarithm of each task's factor.
        run: standard deviation of the logarithm of the factor that all tasks of a run share.
    """

    task: float = 0.3
    run: float = 0.2


def recorded_workflow(path: Path) -> Definition:
    """Return a trace as a definition whose tasks sleep for their recorded time."""
    imported = import_trace(path.read_bytes(), path.stem, scale=1.0)
    return definition(imported["nodes"], id=imported["id"])


def drawn(workflow: Definition, run: str, chance: Chance) -> DurationOf:
    """Return a function that returns the duration of each step of a run."""
    shared = random.Random(f"{workflow.id}/{run}").gauss(0, chance.run)

    def duration_of(step_id: str) -> float:
        recorded = Duration.parse(str(workflow.nodes[step_id].parameters.get("duration", "0s")))
        own = random.Random(f"{workflow.id}/{run}/{step_id}").gauss(0, chance.task)
        return float(recorded) * math.exp(shared + own)

    return duration_of


def errors(
    workflow: Definition,
    chance: Chance,
    runs: Sequence[int] = RUNS,
    trials: int = 20,
    pasts: int = 5,
) -> Mapping[int, Mapping[float, float | None]]:
    """Return the median errors of estimates, by the number of earlier runs and by moment.

    An error is relative to the remaining time. It is None if most trials have no estimate, because
    there is no history.

    Args:
        chance: the spread of durations.
        runs: the numbers of earlier runs after which to measure.
        trials: number of runs to estimate each time; always the same runs.
        pasts: number of independent histories, because one short history is mostly chance.
    """
    found: dict[int, dict[float, list[float]]] = {
        number: {share: [] for share in SHARES} for number in runs
    }
    for past in range(pasts):
        for number, record in _history(workflow, chance, f"past {past}", runs):
            _look(workflow, chance, record, trials, found[number])
    return {
        number: {
            share: median(some) if len(some) > trials * pasts / 2 else None
            for share, some in by_share.items()
        }
        for number, by_share in found.items()
    }


def _history(
    workflow: Definition, chance: Chance, past: str, runs: Sequence[int]
) -> Iterator[tuple[int, NodeHistory]]:
    plan, record = Plan(workflow), NodeHistory()
    for number in range(max(runs) + 1):
        if number in runs:
            yield number, record
        delta = RunDelta()
        delta.record_run(Playback(plan, drawn(workflow, f"{past}/{number}", chance)).finish())
        delta.add_to_nodes(record)


def _look(
    workflow: Definition,
    chance: Chance,
    record: NodeHistory,
    trials: int,
    found: Mapping[float, list[float]],
) -> None:
    estimator = Estimator(graph_of(workflow), workflow.nodes, record)
    for trial in range(trials):
        duration_of = drawn(workflow, f"trial {trial}", chance)
        for share, (run, left) in zip(SHARES, moments(workflow, duration_of, SHARES), strict=True):
            estimate = estimator.remaining_seconds(run.state, run.now)
            if estimate is not None:
                found[share].append(abs(estimate - left) / left)
