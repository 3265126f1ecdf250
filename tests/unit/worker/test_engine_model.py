"""The scheduler against a naive model, in a world made of chance: every log is a good one.

The state machine lets hypothesis choose what happens next, and shrinks what goes wrong to a few
steps. The seeded runs are larger: up to two hundred nodes. In all of them, each log must keep
the promises of ``harness.models.log_invariants``, and each node must end as ``expected_endings``
says, which knows nothing of schedulers.

``MODEL_EXAMPLES=20000 pytest tests/unit/worker/test_engine_model.py`` looks for longer.
A seed that has failed once is kept in ``SEEDS``.
"""

import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from harness.generators.random_workflows import EVERY_TIMEOUT, Mix, random_workflow
from harness.models.simulation import Simulation
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import IllegalEventError, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Group
from tailrace_worker.engine.decide import run_ends, scheduler
from tailrace_worker.engine.decide.maps import MapProgress
from tailrace_worker.engine.decide.outcomes import completed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.run_ends import RunOutcome, group_after, outcome_of
from tailrace_worker.engine.decide.scheduler import Scheduler

EXAMPLES: Final = int(os.environ.get("MODEL_EXAMPLES", "400"))

SEEDS: Final[list[tuple[int, int, float]]] = [
    # seed, most nodes, how much is disturbed
    (0, 200, 0.0),
    (1, 200, 0.01),
]


def simulate(seed: int, most_nodes: int, disturbed: float) -> Simulation:
    """Run one random workflow to its end; return its world."""
    source = Random(seed)
    mix = Mix() if disturbed < 0.02 else Mix(timeouts=EVERY_TIMEOUT)
    workflow = random_workflow(source, source.randrange(1, most_nodes + 1), mix)
    world = Simulation(workflow, source, largest_turn=source.choice([1, 8, 64]))
    world.turn()
    for _ in range(source.randrange(most_nodes * 4)):
        if world.is_over:
            break
        world.act(disturbed=disturbed)
    world.check()
    world.finish()
    world.check()
    return world


class World(RuleBasedStateMachine):
    """Hypothesis decides what happens to an execution, and when."""

    world: Simulation

    @initialize(source=st.randoms(use_true_random=False), size=st.integers(1, 12))
    def begin(self, source: Random, size: int) -> None:
        """Draw a workflow and start it."""
        workflow = random_workflow(source, size, Mix(timeouts=EVERY_TIMEOUT))
        self.world = Simulation(workflow, source)
        self.world.turn()

    def _goes_on(self) -> bool:
        return not self.world.is_over

    @precondition(_goes_on)
    @rule()
    def an_attempt_ends(self) -> None:
        """The worker commits it with what follows."""
        self.world.end_attempt()

    @precondition(_goes_on)
    @rule()
    def an_actor_begins(self) -> None:
        """A message is taken from the actor's queue."""
        self.world.begin_remotely()

    @precondition(_goes_on)
    @rule()
    def an_actor_ends(self) -> None:
        """Well, badly, or lost."""
        self.world.end_remotely()

    @precondition(_goes_on)
    @rule()
    def a_child_run_ends(self) -> None:
        """Completed or failed."""
        self.world.end_child()

    @precondition(_goes_on)
    @rule()
    def decide(self) -> None:
        """An approval or a rejection, just before the worker's next commit."""
        self.world.decide_for()

    @precondition(_goes_on)
    @rule()
    def pause(self) -> None:
        """A request to hold."""
        self.world.pause()

    @precondition(_goes_on)
    @rule()
    def resume(self) -> None:
        """A request to resume; refused if no client has paused the execution."""
        self.world.resume()

    @precondition(_goes_on)
    @rule()
    def cancel(self) -> None:
        """A request to end."""
        self.world.cancel()

    @precondition(_goes_on)
    @rule()
    def time_passes(self) -> None:
        """Advance to the next timer."""
        self.world.pass_time()

    @precondition(_goes_on)
    @rule()
    def the_worker_is_lost(self) -> None:
        """Another takes over from the log."""
        self.world.crash()

    @precondition(lambda self: not self._goes_on())
    @rule()
    def a_job_comes_late(self) -> None:
        """An execution that has ended does not change."""
        self.world.turn()

    def teardown(self) -> None:
        """After any history, the log is legal and the execution ends."""
        if hasattr(self, "world"):
            self.world.check()
            self.world.finish()
            self.world.check()


World.TestCase.settings = settings(
    max_examples=EXAMPLES // 4,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWorld = World.TestCase


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), disturbed=st.sampled_from([0.0, 0.05, 0.3]))
def test_small_executions_keep_every_promise(seed: int, disturbed: float):
    """Few nodes, and much that happens to each."""
    simulate(seed, 12, disturbed)


@settings(max_examples=max(10, EXAMPLES // 20), deadline=None)
@given(seed=st.integers(0, 2**32), disturbed=st.sampled_from([0.0, 0.002, 0.02]))
def test_large_executions_keep_every_promise(seed: int, disturbed: float):
    """Up to two hundred nodes."""
    simulate(seed, 200, disturbed)


@pytest.mark.parametrize(("seed", "most_nodes", "disturbed"), SEEDS)
def test_what_went_wrong_once_goes_well(seed: int, most_nodes: int, disturbed: float):
    """Seeds that have failed, in this model or in a stress run."""
    simulate(seed, most_nodes, disturbed)


def test_the_world_is_full_of_events():
    """A model that never pauses, retries or loses a worker would prove nothing about these."""
    seen: set[str] = set()
    causes: set[str] = set()
    for seed in range(60):
        world = simulate(seed, 30, 0.05)
        for event in world.record.events:
            seen.add(str(type(event).__struct_config__.tag))
            causes |= {getattr(event.data, "cause", ""), getattr(event.data, "wait", "")}
    missing = {str(kind.__struct_config__.tag) for kind in Event.__args__} - seen
    # Reports are the business of attempts, not of the scheduler.
    assert missing == {"step:progress", "step:log"}
    assert causes >= {"error", "crash", "signal", "time", "child", "actor"}


# Is the model able to notice?


def simulate_many(count: int) -> None:
    """Run many small executions."""
    for seed in range(count):
        simulate(seed, 12, 0.1)


def _early_timer(self: Scheduler, now: float) -> list[Event]:
    return list(self._decisions(now + 0.1, format_timestamp(now)))


def _any_ready_when_all_done(self: Scheduler, node: str) -> Any:
    needs = len(self._graph.needs[node])
    if self.plan.nodes[node].node.join == "any" and needs:
        return "open" if self._undecided[node] else "ready"
    return ORIGINAL_JOIN(self, node)


def _impatient_join(self: Scheduler, node: str) -> Any:
    ready = self._succeeded[node] or not self._graph.needs[node]
    return "ready" if ready else ORIGINAL_JOIN(self, node)


def _one_more_item(self: MapProgress) -> str:
    move = ORIGINAL_MOVE(self)
    has_more = self.next_index < self._total and self.first_failed < 0
    return "start" if move == "wait" and has_more else move


def _impatient_map(self: MapProgress) -> str:
    move = ORIGINAL_MOVE(self)
    return "fail" if move == "wait" and self.first_failed >= 0 else move


def _never_held(self: Scheduler, stamp: str) -> Iterator[Any]:
    while (event := self._release(stamp)) is not None:
        yield event


def _never_paused(self: Scheduler, stamp: str) -> Iterator[Any]:
    if not self._unsettled:
        yield self._end(outcome_of(self.plan, self.state, self._graph), stamp)


def _straight_to_the_end(plan: Plan, part: Group | None, outcome: RunOutcome) -> Group | None:
    return None if part else group_after(plan, part, outcome)


def _never_late(self: Scheduler, _now: float) -> bool:
    return self.state.must_stop and not self.state.is_terminal


def _careless_timeout(self: Scheduler, step: StepState, stamp: str) -> Any:
    return self.record(completed(step, {"decision": "approved"}, stamp))


ORIGINAL_JOIN: Any = Scheduler._join
ORIGINAL_MOVE: Any = MapProgress.next_move

MUTANTS: Final[list[tuple[Any, str, Callable[..., Any]]]] = [
    (Scheduler, "decide", _early_timer),
    (Scheduler, "_join", _any_ready_when_all_done),
    (Scheduler, "_join", _impatient_join),
    (Scheduler, "_condition_holds", lambda _self, _node: True),
    (Scheduler, "_pause_when_idle", _never_held),
    (Scheduler, "_time_out", _careless_timeout),
    (Scheduler, "_end_or_pause", _never_paused),
    (Scheduler, "_apply_signal", lambda self, _stamp: self._signalled.popleft() and None),
    (scheduler, "group_after", lambda _plan, _part, _outcome: None),
    (scheduler, "group_after", _straight_to_the_end),
    (scheduler, "goes_on_after", lambda _plan, _node: True),
    (scheduler, "goes_on_after", lambda _plan, _node: False),
    (run_ends, "goes_on_after", lambda _plan, _node: True),
    (run_ends, "goes_on_after", lambda _plan, _node: False),
    (Scheduler, "must_stop", _never_late),
    (MapProgress, "next_move", _one_more_item),
    (MapProgress, "next_move", _impatient_map),
]


@pytest.mark.parametrize(
    ("owner", "name", "wrong"), MUTANTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_model_finds_out_a_broken_scheduler(
    owner: Any, name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    """Each of these mistakes is found within some hundred executions."""
    monkeypatch.setattr(owner, name, wrong)
    monkeypatch.setattr("harness.models.simulation._MAX_ACTIONS", 300)
    with pytest.raises((AssertionError, IllegalEventError)):
        simulate_many(200)
