"""The progress and remaining time that the events of one execution carry."""

import pytest

from harness.generators.workflows import definition
from harness.models.playback import BEGIN, Playback
from tailrace_shared.estimation import Estimator, NodeHistory, Sketch
from tailrace_shared.execution.events import ExecutionStarted, Started, StepProgress, StepProgressed
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.services.progress_estimates import Allowance, ProgressEstimates

STAMP = format_timestamp(BEGIN)


class Counting(Estimator):
    """An estimator that counts how often it is asked."""

    asked = 0

    def remaining_seconds(self, state: ExecutionState, now: float) -> float | None:
        """Count, and estimate."""
        self.asked += 1
        return super().remaining_seconds(state, now)


def _estimator(plan: Plan) -> Counting:
    durations = {node: Sketch.of([10_000]).pack() for node in plan.nodes}
    return Counting(plan.graph, plan.definition.nodes, NodeHistory(durations))


@pytest.fixture
def plan() -> Plan:
    """Two nodes, one after the other."""
    return Plan(definition({"a": {}, "b": {"needs": ["a"]}}))


def _report() -> StepProgressed:
    return StepProgressed(StepProgress("a", "simulate", 50.0), STAMP)


def _free() -> Allowance:
    """An allowance of a worker whose estimates take no time."""
    return Allowance(clock=lambda: 0.0)


def test_a_run_that_begins_tells_how_long_it_takes(plan: Plan) -> None:
    """The estimate of a whole run is made once for all of them."""
    estimator = _estimator(plan)
    for _ in range(3):
        event = ExecutionStarted(Started("e1", "running", STAMP), STAMP)
        outlook = ProgressEstimates(estimator, 2, _free())
        outlook.fill_in([event], Playback(plan, lambda _step: 10.0).state, BEGIN)
        assert event.data.eta_ms == pytest.approx(20_000, rel=0.02)
    assert estimator.asked == 1


def test_reports_tell_how_far_the_run_is(plan: Plan) -> None:
    """The whole run, not the node."""
    run = Playback(plan, lambda _step: 10.0)
    run.state.apply(_report())
    event = _report()
    ProgressEstimates(_estimator(plan), 2, _free()).fill_in([event], run.state, BEGIN + 5)
    assert event.data.progress == 25.0
    assert event.data.eta_ms == pytest.approx(15_000, rel=0.05)


def test_estimates_are_made_once_a_second(plan: Plan) -> None:
    """In between, the elapsed time is subtracted."""
    estimator, run = _estimator(plan), Playback(plan, lambda _step: 10.0)
    outlook = ProgressEstimates(estimator, 2, _free())
    etas: list[int | None] = []
    for tenth in range(20):
        event = _report()
        outlook.fill_in([event], run.state, BEGIN + tenth / 10)
        etas.append(event.data.eta_ms)
    assert estimator.asked == 2
    steps = [(etas[n] or 0) - (etas[n + 1] or 0) for n in range(9)]
    assert steps == [100] * 9


def test_all_executions_share_what_a_worker_has_for_estimates(plan: Plan) -> None:
    """One that has to wait for its turn goes by its last estimate, or says nothing yet."""
    seconds = iter(range(1000))
    allowance = Allowance(0.05, clock=lambda: next(seconds))
    run = Playback(plan, lambda _step: 10.0)
    first, second = (ProgressEstimates(_estimator(plan), 2, allowance) for _ in range(2))
    etas: list[int | None] = []
    for outlook in (first, second):
        event = _report()
        outlook.fill_in([event], run.state, BEGIN)
        etas.append(event.data.eta_ms)
    assert etas[0] is not None
    assert etas[1] is None
    while not allowance.is_left:
        pass
    event = _report()
    second.fill_in([event], run.state, BEGIN)
    assert event.data.eta_ms is not None


async def test_the_estimate_of_a_large_run_is_computed_in_a_thread(plan: Plan) -> None:
    """The run uses the previous estimate meanwhile; a result describes the state at its start."""
    large = Plan(definition({f"n{i}": {} for i in range(5000)}))
    estimator, run = _estimator(large), Playback(large, lambda _step: 10.0)
    assert _estimator(plan).is_quick(Playback(plan, lambda _step: 10.0).state)
    assert not estimator.is_quick(run.state)
    outlook = ProgressEstimates(estimator, 5000, Allowance())
    started = ExecutionStarted(Started("e1", "running", STAMP), STAMP)
    outlook.fill_in([started], run.state, BEGIN)
    etas = []
    for second in (1, 2):
        run.state.apply(event := StepProgressed(StepProgress("n0", "simulate", 50.0), STAMP))
        outlook.fill_in([event], run.state, BEGIN + second)
        etas.append(event.data.eta_ms)
        assert outlook.estimating is not None
        await outlook.estimating
    assert etas == [pytest.approx(9_000, rel=0.05), pytest.approx(8_000, rel=0.05)]
