"""How far estimates are from the truth, after so many runs of the recorded workflows.

In virtual time, with the real scheduler and the real estimator: nothing sleeps, and everybody gets
the same figures. An error is the difference between the time that was told to be left and the time
that was left, as a share of the latter; each figure is the median over many runs and several
histories.
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
    """Return the errors for each recorded workflow."""
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
    """Return what tallies and estimates cost, for small and for large workflows."""
    return [_cost(tasks) for tasks in (10, 100, 1000, 9900)]


def _cost(tasks: int) -> Row:
    plan, record = Plan(grown_workflow(tasks)), NodeHistory()
    ended = Playback(plan, lambda _step: 10.0).finish()
    running = Playback(plan, lambda _step: 10.0)
    running.advance(running.now + 25)
    delta = RunDelta()
    noted = _microseconds(lambda: delta.record_run(ended), 20)
    delta.add_to_nodes(record)
    estimator = Estimator(plan.graph, plan.definition.nodes, record)
    prepared = _microseconds(estimator.prepare, 1)
    estimated = _microseconds(lambda: estimator.remaining_seconds(running.state, running.now), 5)
    return {
        "nodes": len(plan.nodes),
        "to note a run, µs": noted,
        "to look up what is known, µs": prepared,
        "to estimate, µs": estimated,
    }


def _microseconds(what: Callable[[], object], times: int) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        taken.append(time.perf_counter() - began)
    return round(median(taken) * 1e6, 1)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--costs", action="store_true", help="measure what estimates cost instead")
    parser.add_argument("--task-spread", type=float, default=0.3, help="of each task alone")
    parser.add_argument("--run-spread", type=float, default=0.2, help="of a run as a whole")
    parser.add_argument("--trials", type=int, default=20, help="runs that are estimated")
    parser.add_argument("--pasts", type=int, default=5, help="histories that begin anew")
    arguments = parser.parse_args()
    chance = Chance(arguments.task_spread, arguments.run_spread)
    rows = costs() if arguments.costs else accuracy(chance, arguments.trials, arguments.pasts)
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
