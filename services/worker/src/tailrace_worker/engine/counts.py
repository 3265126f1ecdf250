"""The counters of the engine, plain values that its loop updates and a scrape reads."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tailrace_shared.execution.events import (
    Event,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepWaiting,
)
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.process.distribution import LONG_SECONDS, Distribution
from tailrace_shared.process.tracing import current_trace_id

_OUTCOMES: Final[dict[type[Event], str]] = {
    StepCompleted: "success",
    StepFailed: "error",
    StepRetrying: "retry",
    StepWaiting: "wait",
}


def _by_name() -> defaultdict[str, Distribution]:
    return defaultdict(lambda: Distribution(LONG_SECONDS))


@dataclass(slots=True)
class EngineCounts:
    """Totals since the process started, unless stated otherwise.

    Attributes:
        queue_wait: seconds from the storing of a job to its drive, for first deliveries.
        drives: ended drives, by why they ended.
        ended: executions that this worker ended, by status.
        attempts: ended attempts, by node type and outcome.
        attempt_seconds: durations of attempts by node type.
        retries: recorded retries, by cause.
        commit_seconds: durations of appends to logs, by result.
        timer_lag: seconds from when a timer was due to the drive that it caused.
        overdue: executions that the last sweep of this worker found overdue; 0 if another worker
            sweeps.
        rescued: executions that sweeps of this worker gave a job.
    """

    queue_wait: Distribution = field(default_factory=lambda: Distribution(LONG_SECONDS))
    drives: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    attempt_seconds: defaultdict[str, Distribution] = field(default_factory=_by_name)
    # Each cause is exported from the start: `increase` does not see what a series begins with.
    retries: Counter[str] = field(
        default_factory=lambda: Counter({"error": 0, "crash": 0, "handover": 0})
    )
    commit_seconds: defaultdict[str, Distribution] = field(
        default_factory=lambda: defaultdict(Distribution)
    )
    timer_lag: Distribution = field(default_factory=lambda: Distribution(LONG_SECONDS))
    overdue: int = 0
    rescued: int = 0

    def note_attempt(self, node_type: str, end: Event, seconds: float) -> None:
        """Count an attempt that ended with an event after some seconds."""
        self.attempts[node_type, _OUTCOMES[type(end)]] += 1
        self.attempt_seconds[node_type].observe(seconds, current_trace_id())

    def note_stored(self, events: Sequence[Event], state: ExecutionState | None) -> None:
        """Count what stored events tell.

        Args:
            events: the events.
            state: the execution after them; None if they cannot end it.
        """
        for event in events:
            if isinstance(event, StepRetrying):
                self.retries[event.data.cause] += 1
        if state is not None and state.is_terminal:
            self.ended[state.status] += 1
