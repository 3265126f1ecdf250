"""Fill in how far one execution is and how long it will still take.

An estimate evaluates the whole graph. It is made at most once a second, and all drives of a worker
together spend a twentieth of a processor on estimates. In between, the time passed is subtracted
from the last estimate. Estimates of large runs are made in a thread, from a copy of the state.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from tailrace_shared.estimation import Estimator
from tailrace_shared.execution.events import Event, ExecutionStarted, StepProgressed
from tailrace_shared.execution.progress import progress_percent
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.process.log_throttle import LogThrottle

_INTERVAL_S: Final = 1.0
_CPU_SHARE: Final = 0.05
_SMALL_STEPS: Final = 100
"""Up to so many steps, progress is counted at each report: it takes no time."""

_log = structlog.get_logger(__name__)


class Allowance:
    """Limits the share of a worker's time that goes into estimates.

    Args:
        share: share of one processor, from 0 to 1.
        clock: a monotonic clock, in seconds.

    Attributes:
        error_log: limits the log lines about estimates that failed.
    """

    def __init__(
        self, share: float = _CPU_SHARE, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._share = share
        self._clock = clock
        self._free_at = 0.0
        self.error_log = LogThrottle()

    @property
    def is_left(self) -> bool:
        return self._clock() >= self._free_at

    def estimate(self, estimator: Estimator, state: ExecutionState, now: float) -> float | None:
        """Make an estimate; the next one must wait in proportion to its duration."""
        began = self._clock()
        seconds = estimator.remaining_seconds(state, now)
        self._charge(began)
        return seconds

    async def estimate_in_thread(
        self, estimator: Estimator, state: ExecutionState, now: float
    ) -> float | None:
        """Make an estimate in a thread; other estimates wait until it is done.

        Args:
            state: must not change while the thread reads it.
            now: seconds since the epoch.
        """
        began, self._free_at = self._clock(), float("inf")
        try:
            return await asyncio.to_thread(estimator.remaining_seconds, state, now)
        finally:
            self._charge(began)

    def _charge(self, began: float) -> None:
        ended = self._clock()
        self._free_at = ended + (ended - began) / self._share


class ProgressEstimates:
    """Progress and remaining time of one execution.

    Args:
        allowance: shared by all executions of the worker.

    Attributes:
        nodes: the number of nodes of its definition.
    """

    def __init__(self, estimator: Estimator, nodes: int, allowance: Allowance) -> None:
        self.nodes = nodes
        self._estimator = estimator
        self._allowance = allowance
        self._end: float | None = None
        self._estimated_at = float("-inf")
        self.estimating: asyncio.Task[None] | None = None
        self._progress: float | None = None
        self._counted_at = float("-inf")

    def fill_in(self, events: Iterable[Event], state: ExecutionState, now: float) -> None:
        """Fill in the fields of events that describe the whole execution.

        Args:
            events: events about to be appended; started and progress events are changed in place.
            now: seconds since the epoch.
        """
        try:
            self._fill_in(events, state, now)
        except Exception:  # noqa: BLE001
            # An estimate is optional: its failure must not end a drive and its running attempts.
            if self._allowance.error_log.is_due():
                _log.exception("estimate failed", execution=state.execution_id)

    def remaining_ms(self, now: float) -> int | None:
        """Return the remaining time by the last estimate, in milliseconds; None without one."""
        return None if self._end is None else _milliseconds(max(self._end - now, 0.0))

    def _fill_in(self, events: Iterable[Event], state: ExecutionState, now: float) -> None:
        for event in events:
            if isinstance(event, ExecutionStarted):
                event.data.eta_ms = _milliseconds(self._at_start(state, now))
            elif isinstance(event, StepProgressed):
                event.data.progress = self._progress_of(state, now)
                event.data.eta_ms = _milliseconds(self._remaining(state, now))

    def _at_start(self, state: ExecutionState, now: float) -> float | None:
        if state.rerun_of is not None and not self._estimator.is_quick(state):
            return self._remaining(state, now)
        seconds = self._estimator.whole_run(state, now)
        self._note(seconds, now)
        return seconds

    def _remaining(self, state: ExecutionState, now: float) -> float | None:
        if now >= self._estimated_at + _INTERVAL_S and self._allowance.is_left:
            self._estimated_at = now
            if self._estimator.is_quick(state):
                self._note(self._allowance.estimate(self._estimator, state, now), now)
            else:
                task = self._estimate_in_thread(_copy(state), now)
                self.estimating = asyncio.get_running_loop().create_task(task)
        return None if self._end is None else max(self._end - now, 0.0)

    async def _estimate_in_thread(self, state: ExecutionState, now: float) -> None:
        try:
            seconds = await self._allowance.estimate_in_thread(self._estimator, state, now)
        except Exception:  # noqa: BLE001 - as in `fill_in`
            if self._allowance.error_log.is_due():
                _log.exception("estimate failed", execution=state.execution_id)
        else:
            self._note(seconds, now)

    def _note(self, seconds: float | None, now: float) -> None:
        self._end = None if seconds is None else now + seconds

    def _progress_of(self, state: ExecutionState, now: float) -> float | None:
        is_small = max(self.nodes, len(state.steps)) <= _SMALL_STEPS
        if is_small or now >= self._counted_at + _INTERVAL_S:
            self._progress = progress_percent(state, self.nodes)
            self._counted_at = now
        return self._progress


def _copy(state: ExecutionState) -> ExecutionState:
    """Return a copy whose steps do not change when the execution proceeds; values are shared."""
    steps = {name: copy.copy(step) for name, step in state.steps.items()}
    return msgspec.structs.replace(state, steps=steps)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
