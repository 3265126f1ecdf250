"""What the events of one execution tell of how far it is and how long it still takes.

An estimate looks at the whole graph, so it is made once a second at the most, and all drives of a
worker together spend a small share of its time on estimates. In between, what has passed is taken
off the last one. Those of large runs are made in a thread, and tell of what was when they began.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from tailrace_shared.estimation import Estimator
from tailrace_shared.execution.events import Event, ExecutionStarted, StepProgressed
from tailrace_shared.execution.progress import progress_percent
from tailrace_shared.execution.state import ExecutionState

_INTERVAL: Final = 1.0
_SHARE: Final = 0.05
_SMALL: Final = 100
"""Steps that are counted in no time, at each report."""


class Allowance:
    """How much of a worker's time goes into estimates.

    Args:
        share: of one processor.
        clock: a clock that does not jump.
    """

    def __init__(
        self, share: float = _SHARE, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._share = share
        self._clock = clock
        self._free_at = 0.0

    @property
    def is_left(self) -> bool:
        """Whether there is time for an estimate."""
        return self._clock() >= self._free_at

    def estimate(self, estimator: Estimator, state: ExecutionState, now: float) -> float | None:
        """Make an estimate, and have others wait in proportion to what it took."""
        began = self._clock()
        seconds = estimator.remaining_seconds(state, now)
        self._pay(began)
        return seconds

    async def estimate_aside(
        self, estimator: Estimator, state: ExecutionState, now: float
    ) -> float | None:
        """Make an estimate in a thread, of a state that nobody changes; others wait for it."""
        began, self._free_at = self._clock(), float("inf")
        try:
            return await asyncio.to_thread(estimator.remaining_seconds, state, now)
        finally:
            self._pay(began)

    def _pay(self, began: float) -> None:
        ended = self._clock()
        self._free_at = ended + (ended - began) / self._share


class ProgressEstimates:
    """Tells of one execution.

    Args:
        estimator: of its workflow's version.
        nodes: how many nodes that has.
        allowance: shared by all of the worker's executions.

    Attributes:
        estimating: the last estimate that was made in a thread.
    """

    def __init__(self, estimator: Estimator, nodes: int, allowance: Allowance) -> None:
        self._estimator = estimator
        self._nodes = nodes
        self._allowance = allowance
        self._end: float | None = None
        self._estimated_at = float("-inf")
        self.estimating: asyncio.Task[None] | None = None
        self._progress: float | None = None
        self._counted_at = float("-inf")

    def tell(self, events: Iterable[Event], state: ExecutionState, now: float) -> None:
        """Fill in what those events carry that tell of the whole execution.

        Args:
            events: about to be appended.
            state: the execution with these events.
            now: seconds since the epoch.
        """
        for event in events:
            if isinstance(event, ExecutionStarted):
                event.data.eta_ms = _milliseconds(self._at_first(state, now))
            elif isinstance(event, StepProgressed):
                event.data.progress = self._progress_of(state, now)
                event.data.eta_ms = _milliseconds(self._remaining(state, now))

    def _at_first(self, state: ExecutionState, now: float) -> float | None:
        if state.rerun_of is not None and not self._estimator.is_quick(state):
            return self._remaining(state, now)
        seconds = self._estimator.whole_run(state, now)
        self._note(seconds, now)
        return seconds

    def _remaining(self, state: ExecutionState, now: float) -> float | None:
        if now >= self._estimated_at + _INTERVAL and self._allowance.is_left:
            self._estimated_at = now
            if self._estimator.is_quick(state):
                self._note(self._allowance.estimate(self._estimator, state, now), now)
            else:
                task = self._estimate_aside(_copy(state), now)
                self.estimating = asyncio.get_running_loop().create_task(task)
        return None if self._end is None else max(self._end - now, 0.0)

    async def _estimate_aside(self, state: ExecutionState, now: float) -> None:
        self._note(await self._allowance.estimate_aside(self._estimator, state, now), now)

    def _note(self, seconds: float | None, now: float) -> None:
        self._end = None if seconds is None else now + seconds

    def _progress_of(self, state: ExecutionState, now: float) -> float | None:
        is_small = max(self._nodes, len(state.steps)) <= _SMALL
        if is_small or now >= self._counted_at + _INTERVAL:
            self._progress = progress_percent(state, self._nodes)
            self._counted_at = now
        return self._progress


def _copy(state: ExecutionState) -> ExecutionState:
    """Return a state that stays as it is while the execution goes on; its values are shared."""
    steps = {name: copy.copy(step) for name, step in state.steps.items()}
    return msgspec.structs.replace(state, steps=steps)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
