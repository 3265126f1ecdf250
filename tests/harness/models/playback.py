"""Runs of a workflow in virtual time, with the real scheduler and given durations of steps.

There is no clock and no I/O, so a run of hours takes milliseconds and is deterministic.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator

from tailrace_shared.execution import commands
from tailrace_shared.execution.events import StepStarted
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.outcomes import completed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

BEGIN = 1_700_000_000.0

DurationOf = Callable[[str], float]
"""Returns the duration of a step, in seconds."""


class Playback:
    """One run, which advances to a given time.

    Args:
        plan: the plan of the workflow.
        duration_of: returns the duration of each step.

    Attributes:
        now: the virtual time, in seconds since the epoch.
    """

    def __init__(self, plan: Plan, duration_of: DurationOf) -> None:
        self.now = BEGIN
        self._duration_of = duration_of
        self._running: list[tuple[float, str]] = []
        state = fold([commands.create("e1", plan.definition, 1, None, BEGIN)])
        self._scheduler = Scheduler(plan, state)
        self._decide()

    @property
    def state(self) -> ExecutionState:
        """The state of the run."""
        return self._scheduler.state

    def advance(self, until: float) -> None:
        """Advance to a time."""
        while self._running and self._running[0][0] <= until:
            self.now, step_id = heapq.heappop(self._running)
            step = self.state.steps[step_id]
            self._scheduler.record(completed(step, {}, format_timestamp(self.now)))
            self._decide()
        self.now = max(self.now, until) if self._running else self.now

    def finish(self) -> ExecutionState:
        """Advance to the end; return the final state."""
        self.advance(float("inf"))
        assert self.state.is_terminal
        return self.state

    def _decide(self) -> None:
        while decisions := self._scheduler.decide(self.now):
            for event in decisions:
                if isinstance(event, StepStarted):
                    step_id = event.data.node_id
                    end = self.now + self._duration_of(step_id)
                    heapq.heappush(self._running, (end, step_id))


def moments(
    definition: Definition, duration_of: DurationOf, shares: Iterable[float]
) -> Iterator[tuple[Playback, float]]:
    """Advance a run to some shares of its duration; yields it and the seconds that remain."""
    plan = Plan(definition)
    played = Playback(plan, duration_of)
    played.finish()
    end = played.now
    run = Playback(plan, duration_of)
    for share in shares:
        run.advance(BEGIN + share * (end - BEGIN))
        yield run, end - run.now
