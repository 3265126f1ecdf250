"""Estimates of random workflows, in a world made of random choices."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.generators.random_workflows import EVERY_TIMEOUT, Mix, random_workflow
from harness.models.simulation import Simulation
from tailrace_shared.estimation import Estimator, NodeHistory, RunDelta, decode_nodes, encode_nodes
from tailrace_shared.execution.progress import progress_percent
from tailrace_shared.workflow.definition import Definition

_MOST_ACTIONS = 200


def _record(workflow: Definition, source: Random, runs: int) -> NodeHistory:
    record = NodeHistory()
    for _ in range(runs):
        past = Simulation(workflow, source)
        past.finish()
        delta = RunDelta()
        delta.record_run(past.state)
        delta.add_to_nodes(record)
    return decode_nodes(encode_nodes(record))


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(0, 6))
def test_in_any_state_there_is_an_estimate_or_no_data(
    source: Random, nodes: int, runs: int
) -> None:
    """It is a length of time; how far the run is, is a share; and to ask twice is to ask once."""
    workflow = random_workflow(source, nodes, Mix(timeouts=EVERY_TIMEOUT))
    record = _record(workflow, source, runs)
    run = Simulation(workflow, source)
    estimator = Estimator(run.plan.graph, workflow.nodes, record)
    for _ in range(_MOST_ACTIONS):
        seconds = estimator.remaining_seconds(run.state, run.now)
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
        assert estimator.remaining_seconds(run.state, run.now) == seconds
        assert 0 <= progress_percent(run.state, len(workflow.nodes)) <= 100
        if run.is_over:
            break
        run.act(disturbed=0.1)
    run.finish()
    assert estimator.remaining_seconds(run.state, run.now) == 0
