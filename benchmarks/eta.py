"""Measure the error of estimates after different numbers of runs of the recorded workflows.

The real scheduler and the real estimator run in virtual time, so the results are the same on every
machine. An error is the difference between the estimated and the actual remaining time, relative to
the actual one. Each figure is the median over many runs and several histories.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

from benchmarks.table import Row, print_rows
from harness.generators.grown_traces import grown_workflow
from harness.models.eta_errors import RUNS, SHARES, TRACES, Chance, errors, recorded_workflow
from harness.models.playback import Playback
from tailrace_shared.estimation import Estimator, NodeHistory, RunDelta
from tailrace_worker.engine.decide.plan import Plan


def accuracy(chance: Chance, trials: int, pasts: int) -> list[Row]:
    """Return the median errors for each recorded workflow."""
    rows: list[Row] = []
    for trace in sorted(TRACES.glob("*.json")):
        found = errors(recorded_workflow(trace), chance, RUNS, trials, pasts)
        rows += [
            {
                "workflow": trace.stem.split("-")[0],
                "runs before": runs,
                **{f"at {share:.0%}": _percent(by_share[share]) for share in SHARES},
            }
            for runs, by_share in found.items()
        ]
    return rows


def costs() -> list[Row]:
    """Return the CPU time of recording a run and of an estimate, for small and large workflows."""
    return [_cost(tasks) for tasks in (10, 100, 1000, 9900)]


def _cost(tasks: int) -> Row:
    plan, record = Plan(grown_workflow(tasks)), NodeHistory()
    ended = Playback(plan, lambda _step: 10.0).finish()
    running = Playback(plan, lambda _step: 10.0)
    running.advance(running.now + 25)
    delta = RunDelta()
    recorded = _microseconds(lambda: delta.record_run(ended), 20)
    delta.add_to_nodes(record)
    estimator = Estimator(plan.graph, plan.definition.nodes, record)
    prepared = _microseconds(estimator.prepare, 1)
    estimated = _microseconds(lambda: estimator.remaining_seconds(running.state, running.now), 5)
    return {
        "nodes": len(plan.nodes),
        "record a run, µs": recorded,
        "prepare the estimator, µs": prepared,
        "estimate, µs": estimated,
    }


def _microseconds(work: Callable[[], object], times: int) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(median(taken) * 1e6, 1)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--costs", action="store_true", help="measure the CPU time of estimates instead"
    )
    parser.add_argument(
        "--task-spread",
        type=float,
        default=0.3,
        help="standard deviation of each task's own factor (log)",
    )
    parser.add_argument(
        "--run-spread",
        type=float,
        default=0.2,
        help="standard deviation of the factor of a whole run (log)",
    )
    parser.add_argument("--trials", type=int, default=20, help="runs to estimate")
    parser.add_argument("--pasts", type=int, default=5, help="independent histories")
    arguments = parser.parse_args()
    chance = Chance(arguments.task_spread, arguments.run_spread)
    rows = costs() if arguments.costs else accuracy(chance, arguments.trials, arguments.pasts)
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
