"""The scheduler: what must happen next. No clock, no I/O, no await.

It stands on a plan and a state and answers in events. Every event, its own or one that reports
what a node did, goes through :meth:`Scheduler.record`, which folds it into the state and notes
which nodes it may have made ready. So a decision costs what changed, not what the workflow
holds, and a run is linear in its nodes and edges. A scheduler made from a folded log decides
exactly as the one that wrote that log: that is what recovery rests on.

``graphlib`` has sorted the plan, but does not drive it: it releases a node when all its
predecessors are done, which is only one of the three joins.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import evaluate, render
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    Cancelled,
    Completed,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    Failed,
    Started,
    StepAgain,
    StepBegun,
    StepCompleted,
    StepDone,
    StepError,
    StepEvent,
    StepFailed,
    StepRetrying,
    StepSkip,
    StepSkipped,
    StepStarted,
    format_timestamp,
    parse_timestamp,
)
from tailrace_shared.execution.state import SETTLED, ExecutionState, StepState
from tailrace_worker.engine.plan import Plan

MAX_ERROR_CHARACTERS: Final = 4096
_MAX_DECISIONS: Final = 64
"""Events in one decision: more would keep the event loop from everything else."""


class Scheduler:
    """Decides for one execution.

    Args:
        plan: the version of the workflow that the execution runs.
        state: the execution as its log tells it; the scheduler keeps it up to date.
    """

    def __init__(self, plan: Plan, state: ExecutionState) -> None:
        self.plan = plan
        self.state = state
        # Counted rather than looked up: a node that needs a thousand is asked a thousand times.
        self._undecided = {node: len(needs) for node, needs in plan.graph.needs.items()}
        self._succeeded = dict.fromkeys(plan.nodes, 0)
        self._satisfied = dict.fromkeys(plan.nodes, 0)
        self._unsettled = len(plan.nodes)
        self._frontier: deque[str] = deque()
        self._timers: list[tuple[float, str]] = []
        for node in plan.graph.order:
            step = state.steps.get(node)
            if not plan.graph.needs[node] and (step is None or step.status == "pending"):
                self._frontier.append(node)
            if step is not None:
                self._note(step)

    # What has happened

    def record(self, event: Event) -> Event:
        """Fold an event into the state and see what it makes possible; returns it."""
        self.state.apply(event)
        if isinstance(event, StepEvent):
            self._note(self.state.steps[event.data.node_id])
        return event

    def _note(self, step: StepState) -> None:
        if step.status in SETTLED:
            self._unsettled -= 1
            succeeded = step.status == "success"
            for dependent in self.plan.graph.dependents[step.node_id]:
                self._undecided[dependent] -= 1
                self._succeeded[dependent] += succeeded
                self._satisfied[dependent] += succeeded or step.skipped_by_when
                if self._join(dependent) != "open":
                    self._frontier.append(dependent)
        elif step.due is not None:
            heapq.heappush(self._timers, (step.due, step.node_id))

    # What must happen

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, in seconds since the epoch; None if there is none."""
        while self._timers and self._is_stale(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    @property
    def running(self) -> list[StepState]:
        """The steps that an attempt runs for."""
        return [step for step in self.state.steps.values() if step.status == "running"]

    def decide(self, now: float) -> list[Event]:
        """Return what must happen at ``now`` (seconds since the epoch), recorded already.

        At most some 64 events come at a time; ask again until none does.
        """
        return list(self._decisions(now, format_timestamp(now)))

    def _decisions(self, now: float, stamp: str) -> Iterator[Event]:
        if self.state.is_terminal or self.state.cancel:
            return
        if self.state.status == "queued":
            started = Started(self.state.execution_id, "running", stamp)
            yield self.record(ExecutionStarted(started, stamp))
        for _ in range(_MAX_DECISIONS):
            event = self._fire(now, stamp) or self._release(stamp)
            if event is None:
                break
            yield event
        if not self._unsettled:
            yield self.record(self._finish(stamp))

    def _fire(self, now: float, stamp: str) -> Event | None:
        due = self.next_due
        if due is None or due > now:
            return None
        step = self.state.steps[heapq.heappop(self._timers)[1]]
        if step.status == "retrying":
            return self._start(step.node_id, stamp)
        return self.record(completed(step, {}, stamp))

    def _release(self, stamp: str) -> Event | None:
        """Take nodes from the frontier until one of them can be decided on."""
        while self._frontier:
            node = self._frontier.popleft()
            known = self.state.steps.get(node)
            if known is not None and known.status != "pending":
                continue
            match self._join(node):
                case "ready":
                    return self._start_or_skip(node, stamp)
                case "never":
                    return self._skip(node, "needs", stamp)
                case "open":  # nothing comes to the frontier before its needs have decided
                    continue
        return None

    def _join(self, node: str) -> Literal["ready", "never", "open"]:
        """Tell whether the needs of a node let it run, keep it from running ever, or neither."""
        needs = len(self.plan.graph.needs[node])
        join = self.plan.nodes[node].node.join
        if not needs or (join == "any" and self._succeeded[node]):
            return "ready"
        if self._undecided[node]:
            return "open"
        match join:
            case "any":
                return "never"
            case "all_done":
                return "ready"
            case "all":
                return "ready" if self._satisfied[node] == needs else "never"

    def _start_or_skip(self, node: str, stamp: str) -> Event:
        try:
            wanted = self._is_wanted(node)
        except ExpressionError as error:
            return self.record(failed(self._named(node), f"when: {error}", stamp))
        return self._start(node, stamp) if wanted else self._skip(node, "when", stamp)

    def _is_wanted(self, node: str) -> bool:
        condition = self.plan.nodes[node].when
        if condition is None:
            return True
        wanted = evaluate(condition, self.state)
        if not isinstance(wanted, bool):
            raise ExpressionError(f"{condition.source}: is {repr(wanted)[:80]}, not true or false")
        return wanted

    def _start(self, node_id: str, stamp: str) -> Event:
        node = self.plan.nodes[node_id].node
        attempt = self.state.step(node_id).attempt + 1
        begun = StepBegun(node_id, node.type, "running", attempt, stamp, node.name, node.stage)
        return self.record(StepStarted(begun, stamp))

    def _skip(self, node: str, reason: Literal["when", "needs"], stamp: str) -> Event:
        node_type = self.plan.nodes[node].node.type
        return self.record(StepSkipped(StepSkip(node, node_type, "skipped", reason), stamp))

    def _named(self, node: str) -> StepState:
        step = self.state.step(node)
        step.node_type = self.plan.nodes[node].node.type
        return step

    # How it ends

    def _finish(self, stamp: str) -> Event:
        elapsed = self._elapsed_ms(stamp)
        execution = self.state.execution_id
        for node in self.plan.graph.order:
            step = self.state.steps[node]
            if step.status == "error":
                message = f"{node}: {step.error}"[:MAX_ERROR_CHARACTERS]
                return ExecutionFailed(Failed(execution, "failed", elapsed, message, node), stamp)
        try:
            output, omitted = self._output()
        except ExpressionError as error:
            message = f"output: {error}"[:MAX_ERROR_CHARACTERS]
            return ExecutionFailed(Failed(execution, "failed", elapsed, message), stamp)
        return ExecutionCompleted(
            Completed(execution, "completed", elapsed, output, omitted), stamp
        )

    def _output(self) -> tuple[object, bool]:
        if self.plan.output is not None:
            output = render(self.plan.output, self.state)
            size = len(msgspec.json.encode(output))
            if size > MAX_VALUE_BYTES:
                raise ExpressionError(f"{size} bytes; the limit is {MAX_VALUE_BYTES}")
            return output, False
        leaves = {node: self.state.steps[node].output for node in self.plan.graph.leaves}
        # The leaves' outputs are in the log already; repeating them is only a convenience.
        if len(msgspec.json.encode(leaves)) > MAX_VALUE_BYTES:
            return None, True
        return leaves, False

    def cancelled(self, now: float) -> Event:
        """Return the event that ends a cancelled execution, recorded already."""
        stamp = format_timestamp(now)
        reason = self.state.cancel.data.reason if self.state.cancel else ""
        end = Cancelled(self.state.execution_id, "cancelled", self._elapsed_ms(stamp), reason)
        return self.record(ExecutionCancelled(end, stamp))

    def _elapsed_ms(self, stamp: str) -> int:
        begun = self.state.started_at or self.state.created_at or stamp
        return max(0, round((parse_timestamp(stamp) - parse_timestamp(begun)) * 1000))

    def _is_stale(self, due: float, node: str) -> bool:
        return self.state.steps[node].due != due


def completed(step: StepState, output: object, stamp: str, duration_ms: int | None = None) -> Event:
    """Return the event of a step's success."""
    started_at, measured = _span(step, stamp)
    done = StepDone(
        step.node_id,
        step.node_type,
        "success",
        step.attempt,
        started_at,
        stamp,
        measured if duration_ms is None else duration_ms,
        output,
    )
    return StepCompleted(done, stamp)


def failed(step: StepState, error: str, stamp: str) -> Event:
    """Return the event of a step's failure for good."""
    started_at, duration_ms = _span(step, stamp)
    end = StepError(
        step.node_id,
        step.node_type,
        "error",
        step.attempt,
        started_at,
        stamp,
        duration_ms,
        error[:MAX_ERROR_CHARACTERS],
    )
    return StepFailed(end, stamp)


def retrying(
    step: StepState,
    cause: Literal["error", "crash", "handover"],
    error: str,
    retry_at: float,
    stamp: str,
) -> Event:
    """Return the event of an attempt that another one follows."""
    again = StepAgain(
        step.node_id,
        step.node_type,
        "retrying",
        step.attempt,
        cause,
        error[:MAX_ERROR_CHARACTERS],
        format_timestamp(retry_at),
    )
    return StepRetrying(again, stamp)


def _span(step: StepState, stamp: str) -> tuple[str, int]:
    started_at = step.started_at or stamp
    elapsed = parse_timestamp(stamp) - parse_timestamp(started_at)
    return started_at, max(0, round(elapsed * 1000))
