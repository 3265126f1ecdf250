"""Decide what must happen next in an execution. No clock, no I/O, no await.

The scheduler stands on a plan and a state, and answers in events. Every event, whether it is a
decision of the scheduler or a fact about a node, goes through :meth:`Scheduler.record`. ``record``
folds it into the state and notes which nodes it may have made ready. So a decision costs what
changed, not what the workflow holds, and a run is linear in its nodes and edges. A scheduler made
from a folded log decides exactly as the one that wrote the log: recovery relies on that.

``graphlib`` has sorted the plan, but does not drive it: it releases a node when all its
predecessors are done, which is only one of the three joins.

The main part of a workflow runs first. When all of it has settled, or was stopped by a cancellation
or by the workflow's time limit, the groups follow: ``on_failure`` if the run has failed, then
``finally``. Each begins with ``execution:finishing``, which cancels what has not ended. The
scheduler knows one part at a time, because no edge leads from one to another.

Nothing happens in a paused execution before ``execution:resumed``. So this event precedes
any other event of one.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import evaluate
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    ExecutionFinishing,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionStarted,
    Paused,
    Resumed,
    Started,
    StepBegun,
    StepCompleted,
    StepEvent,
    StepExpanded,
    StepExpansion,
    StepFailed,
    StepSkip,
    StepSkipped,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp, parse_timestamp
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.definition import Group
from tailrace_shared.workflow.expressions.expression import Expression
from tailrace_shared.workflow.graph import Graph
from tailrace_worker.engine.decide.maps import MapProgress, checked_items, gathered
from tailrace_worker.engine.decide.outcomes import MAX_WAITS_LISTED, completed, failed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.run_ends import (
    RunOutcome,
    finishing_event,
    goes_on_after,
    group_after,
    last_event,
    outcome_of,
)
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.decide.variables import variables_of

MAX_DECISIONS: Final = 64
"""Events in one decision: more would block the event loop for too long."""
# A decision ends when its expressions have cost this part of what one template may cost.
_TURN_SHARE: Final = 0.5


class Scheduler:
    """Decides for one execution.

    Args:
        state: the execution by its log; the scheduler keeps it up to date.
    """

    def __init__(self, plan: Plan, state: ExecutionState) -> None:
        self.plan = plan
        self.state = state
        #: Marks sensitive places; None while nothing of the execution is marked.
        self.sensitivity = SensitivityMarks.of(plan, state)
        self._frontier: deque[str] = deque()
        self._timers: list[tuple[float, str]] = []
        # Steps that will proceed without a signal.
        self._active: dict[str, None] = {}
        self._signalled: deque[str] = deque()
        self._maps: dict[str, MapProgress] = {}
        self._open_maps: deque[str] = deque()
        self._timed_out: list[str] = []
        self._changed: set[str] = set()
        # What expressions have cost in this call of `decide`.
        self._spent = 0.0
        #: Steps that wait for a signal, a child run or an actor.
        self.waiting: dict[str, StepState] = {}
        self._enter_part()

    def _enter_part(self) -> None:
        """Count the nodes of the part that the execution has reached."""
        finishing = self.state.finishing
        self._part: Group | None = None if finishing is None else finishing.group
        self._graph: Graph = self.plan.parts[self._part]
        # Counted rather than looked up: a node that needs a thousand others is examined a thousand
        # times.
        self._undecided = {node: len(needs) for node, needs in self._graph.needs.items()}
        self._succeeded = dict.fromkeys(self._undecided, 0)
        self._satisfied = dict.fromkeys(self._undecided, 0)
        self._unsettled = len(self._undecided)
        for node in self._graph.order:
            step = self.state.steps.get(node)
            if not self._graph.needs[node] and (step is None or step.status == "pending"):
                self._frontier.append(node)
            if step is not None:
                self._note(step)
                if step.status == "running" and node in self.plan.maps:
                    self._open_map(step)

    def _begin_group(self) -> None:
        """Forget the part that has ended, and enter the group that begins."""
        self._changed.update(self.waiting)
        self.waiting.clear()
        self._active.clear()
        self._maps.clear()
        for queue in (self._frontier, self._signalled, self._open_maps):
            queue.clear()
        self._timers.clear()
        self._timed_out.clear()
        self._enter_part()

    # What has happened

    def record(self, event: Event, output: Any = msgspec.UNSET) -> Event:
        """Fold an event into the state and note what it makes possible; return the event.

        Args:
            output: the output of a step that has completed, if the event only refers to it.
        """
        if isinstance(event, StepWaiting) and event.data.wait == "signal":
            event.data.variables = event.data.variables or variables_of(self.state)
        if self.sensitivity is not None or getattr(event.data, "sensitive", None):
            # The data of a child run or a signal may be marked although nothing else is.
            self.sensitivity = self.sensitivity or SensitivityMarks(self.plan, self.state)
            self.sensitivity.mark(event, output)
        self.state.apply(event)
        if isinstance(event, StepEvent):
            step = self.state.steps[event.data.node_id]
            self._note(step)
            if isinstance(event, StepExpanded):
                self._open_map(step)
            elif isinstance(event, StepStarted) and step.node_id in self.plan.maps:
                self._open_maps.append(step.node_id)
        elif isinstance(event, ExecutionFinishing):
            self._begin_group()
        elif isinstance(event, CommandRequested) and event.data.node_id is not None:
            self._note_activity(self.state.steps[event.data.node_id])
        return event

    def _note(self, step: StepState) -> None:
        node_id, index = split_item_id(step.node_id)
        self._note_activity(step)
        if index is not None:
            self._note_item(node_id, step)
        elif step.status in SETTLED:
            self._settle(step)
        if step.due is not None and step.status not in SETTLED:
            heapq.heappush(self._timers, (step.due, step.node_id))

    def _note_activity(self, step: StepState) -> None:
        wait = step.waiting.wait if step.status == "waiting" and step.waiting else None
        if wait not in {None, "time"}:
            self.waiting[step.node_id] = step
            self._changed.add(step.node_id)
        elif self.waiting.pop(step.node_id, None) is not None:
            self._changed.add(step.node_id)
        if step.resolution is not None:
            self._signalled.append(step.node_id)
        is_active = step.status in {"running", "retrying", "waiting"} and wait != "signal"
        if is_active:
            self._active[step.node_id] = None
        else:
            self._active.pop(step.node_id, None)

    def _settle(self, step: StepState) -> None:
        self._unsettled -= 1
        succeeded = step.status == "success" or (
            step.status == "error" and goes_on_after(self.plan, step.node_id)
        )
        for dependent in self._graph.dependents[step.node_id]:
            self._undecided[dependent] -= 1
            self._succeeded[dependent] += succeeded
            self._satisfied[dependent] += succeeded or step.skipped_by_when
            if self._join(dependent) != "open":
                self._frontier.append(dependent)

    def _open_map(self, step: StepState) -> None:
        if step.items is None:
            self._open_maps.append(step.node_id)  # it has started, but its items are not known yet
            return
        progress = self._maps[step.node_id] = MapProgress(
            self.plan.maps[step.node_id].work, len(step.items)
        )
        # The map itself does nothing: its items run, or wait for their turn.
        self._active.pop(step.node_id, None)
        for index in range(len(step.items)):
            item = self.state.steps.get(item_id(step.node_id, index))
            if item is None:
                continue
            progress.note(item)
            self._note_activity(item)
            if item.due is not None and item.status not in SETTLED:
                heapq.heappush(self._timers, (item.due, item.node_id))
        self._open_maps.append(step.node_id)

    def _note_item(self, map_id: str, item: StepState) -> None:
        progress = self._maps.get(map_id)
        if progress is not None and progress.note(item):
            self._open_maps.append(map_id)

    # What must happen

    @property
    def next_due(self) -> float | None:
        """When the next timer is due, in seconds since the epoch; None if there is none."""
        if self.state.is_held:
            return None
        due, deadline = self._next_timer, self._deadline
        if due is None or deadline is None:
            return deadline if due is None else due
        return min(due, deadline)

    @property
    def _next_timer(self) -> float | None:
        while self._timers and self._is_stale(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    @property
    def _deadline(self) -> float | None:
        """When the main part must have ended."""
        state, limit = self.state, self.plan.timeout_s
        if limit is None or state.started_at is None or self._part is not None:
            return None
        return parse_timestamp(state.started_at) + limit

    def must_stop(self, now: float) -> bool:
        """Return whether all attempts must end: the run was cancelled, or is out of time."""
        if self.state.is_terminal or self.state.cancel is not None:
            return self.state.must_stop and not self.state.is_terminal
        if self.plan.timeout_s is None or self.state.is_held:
            return False
        deadline = self._deadline
        return deadline is not None and deadline <= now

    def take_changed(self) -> set[str]:
        """Return the steps that have entered or left ``waiting`` since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def take_timed_out(self) -> list[str]:
        """Return the steps whose child run has timed out and is to be cancelled."""
        late, self._timed_out = self._timed_out, []
        return late

    @property
    def attended(self) -> list[StepState]:
        """Steps whose attempts the driving worker runs itself."""
        active = map(self.state.steps.__getitem__, self._active)
        return [s for s in active if s.runs_locally and s.node_id not in self.plan.maps]

    @property
    def is_active(self) -> bool:
        """Whether any step runs, is about to be retried, or waits for other than a signal."""
        return bool(self._active)

    @property
    def remote(self) -> list[StepState]:
        """Steps that wait for an actor, or whose attempt an actor runs."""
        active = map(self.state.steps.__getitem__, self._active)
        return [
            step
            for step in active
            if (step.status == "running" and step.is_remote)
            or (step.waiting is not None and step.waiting.wait == "actor")
        ]

    def decide(self, now: float) -> list[Event]:
        """Return what must happen at ``now`` (seconds since the epoch), recorded already.

        At most about 64 events are returned at a time, and fewer if expressions are expensive. Call
        again if there were as many, if :attr:`is_tired`, or if something has happened since.
        """
        self._spent = 0.0
        return list(self._decisions(now, format_timestamp(now)))

    @property
    def is_tired(self) -> bool:
        """Whether the last call of :meth:`decide` ended because its expressions were expensive."""
        return self._spent > self.plan.expression_steps * _TURN_SHARE

    def _decisions(self, now: float, stamp: str) -> Iterator[Event]:
        state = self.state
        if state.is_terminal or self.must_stop(now):
            return
        if state.status == "queued":
            started = Started(state.execution_id, "running", stamp)
            yield self.record(ExecutionStarted(started, stamp))
        if state.is_held:
            yield from self._pause_when_idle(stamp)
            return
        if state.status == "paused":
            yield from self._resume(now, stamp)
        for _ in range(MAX_DECISIONS):
            event = self._next(now, stamp) or self._next_group(stamp)
            if event is None:
                yield from self._end_or_pause(stamp)
                return
            yield event
            if state.must_stop or self.is_tired:  # cancelled by a timeout
                return

    def _next(self, now: float, stamp: str) -> Event | None:
        if self._signalled:
            return self._apply_signal(stamp) or self._next(now, stamp)
        return self._fire(now, stamp) or self._release(stamp) or self._advance_maps(stamp)

    # Pauses

    def _pause_when_idle(self, stamp: str) -> Iterator[Event]:
        """Pause as requested, once no step is running."""
        state = self.state
        runs = any(
            state.steps[step].status == "running" and step not in self.plan.maps
            for step in self._active
        )
        if not runs and not state.is_paused_by_request:
            yield self.record(self._paused("requested", stamp, requested=True))

    def _resume(self, now: float, stamp: str) -> Iterator[Event]:
        signalled = self._first_signalled
        due = self.next_due
        is_due = due is not None and due <= now
        if not (self.state.is_paused_by_request or signalled or is_due):
            return
        resumed = Resumed(self.state.execution_id, "running", signalled)
        yield self.record(ExecutionResumed(resumed, stamp))

    def _end_or_pause(self, stamp: str) -> Iterator[Event]:
        if not self._unsettled:
            yield self._end(outcome_of(self.plan, self.state, self._graph), stamp)
        elif self.state.status == "running" and not self._active and self._awaiting:
            first = self.waiting[self._awaiting[0]].waiting
            reason = (first.reason if first else "") or "signal"
            yield self.record(self._paused(reason, stamp, requested=False))

    @property
    def _awaiting(self) -> list[str]:
        return [step for step in self.waiting if step not in self._active]

    def _paused(self, reason: str, stamp: str, *, requested: bool) -> Event:
        paused = Paused(self.state.execution_id, "paused", reason, requested, self._awaiting)
        return ExecutionPaused(paused, stamp)

    # Signals and timers

    @property
    def _first_signalled(self) -> str | None:
        """The step whose signal is to be applied next; None if there is none."""
        # Another driver may have applied what was noted here.
        while self._signalled and self.state.steps[self._signalled[0]].resolution is None:
            self._signalled.popleft()
        return self._signalled[0] if self._signalled else None

    def _apply_signal(self, stamp: str) -> Event | None:
        step = self.state.steps[self._signalled.popleft()]
        signal, wait = step.resolution, step.waiting
        if signal is None or wait is None:
            return None  # noted twice and applied before
        if signal.decision == "rejected" and wait.on_reject == "fail":
            error = f"rejected by {signal.actor}" if signal.actor else "rejected"
            return self._end_wait(failed(step, error, stamp))
        output = {
            "decision": signal.decision,
            "data": signal.data,
            "actor": signal.actor or None,
            "event": signal.event,
        }
        return self._end_wait(completed(step, output, stamp))

    def _end_wait(self, event: StepCompleted | StepFailed) -> Event:
        """Record the end of a wait for a signal, and with the last one those that go on.

        Existing front ends forget all waits of the execution when one of them ends.
        """
        self.record(event)
        if not self._signalled:
            open_waits = self.state.open_waits(MAX_WAITS_LISTED)
            event.data.still_waiting, event.data.variables = open_waits
        return event

    def _fire(self, now: float, stamp: str) -> Event | None:
        while (due := self._next_timer) is not None and due <= now:
            step = self.state.steps[heapq.heappop(self._timers)[1]]
            if step.status == "retrying":
                return self._start(step.node_id, stamp)
            match step.waiting and step.waiting.wait:
                case "signal":
                    return self._time_out(step, stamp)
                case "child":
                    # The attempt ends when its child run has been asked to cancel.
                    self._timed_out.append(step.node_id)
                case _:
                    return self.record(completed(step, {}, stamp))
        return None

    def _time_out(self, step: StepState, stamp: str) -> Event:
        message = self.timeout_message(step)
        match step.waiting and step.waiting.on_timeout:
            case "continue":
                output = {"decision": "timeout", "data": None, "actor": None, "event": None}
                return self._end_wait(completed(step, output, stamp))
            case "cancel":
                step.due = None  # it has fired
                execution = self.state.execution_id
                command_id = f"timeout:{step.node_id}"
                reason = f"{step.node_id}: {message}"
                cancel = Command(execution, "cancel", command_id, reason=reason)
                return self.record(CommandRequested(cancel, stamp))
            case _:
                return self._end_wait(failed(step, message, stamp))

    def timeout_message(self, step: StepState) -> str:
        return f"timed out after {self.plan.step(step.node_id).node.timeout}"

    # Nodes

    def _release(self, stamp: str) -> Event | None:
        """Take nodes from the frontier until one of them can be decided."""
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
                case "open":  # no node enters the frontier before its needs have decided
                    continue
        return None

    def _join(self, node: str) -> Literal["ready", "never", "open"]:
        """Return whether the needs of a node let it run, rule it out, or are undecided."""
        needs = len(self._graph.needs[node])
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
            case "all_success":
                return "ready" if self._succeeded[node] == needs else "never"

    def _start_or_skip(self, node: str, stamp: str) -> Event:
        try:
            holds = self._condition_holds(node)
        except ExpressionError as error:
            return self.record(failed(self._new_step(node), f"when: {error}", stamp))
        return self._start(node, stamp) if holds else self._skip(node, "when", stamp)

    def _condition_holds(self, node: str) -> bool:
        condition = self.plan.nodes[node].when
        if condition is None:
            return True
        holds = self._evaluate(condition)
        if not isinstance(holds, bool):
            raise ExpressionError(f"{condition.source}: is {repr(holds)[:80]}, not true or false")
        return holds

    def _evaluate(self, expression: Expression) -> Any:
        budget = self.plan.budget()
        try:
            return evaluate(expression, self.state, budget=budget)
        finally:
            self._spent += budget.spent

    def _start(self, step_id: str, stamp: str) -> Event:
        planned = self.plan.step(step_id)
        node = planned.node
        known = self.state.steps.get(step_id)
        attempt = 1 if known is None else known.attempt + 1
        if planned.is_actor:
            # The attempt starts when an actor takes the message.
            wait = StepWait(
                step_id, node.type, "waiting", wait="actor", attempt=attempt, name=node.name
            )
            return self.record(StepWaiting(wait, stamp))
        begun = StepBegun(step_id, node.type, "running", attempt, stamp, node.name, node.stage)
        return self.record(StepStarted(begun, stamp))

    def _skip(self, node: str, reason: Literal["when", "needs"], stamp: str) -> Event:
        skipped = self.plan.nodes[node].node
        skip = StepSkip(node, skipped.type, "skipped", reason, skipped.name)
        return self.record(StepSkipped(skip, stamp))

    def _new_step(self, node: str) -> StepState:
        step, planned = self.state.step(node), self.plan.nodes[node].node
        step.node_type, step.stage, step.name = planned.type, planned.stage, planned.name
        return step

    # Maps

    def _advance_maps(self, stamp: str) -> Event | None:
        """Make one move of the first map that has one to make."""
        while self._open_maps:
            map_id = self._open_maps[0]
            event = self._advance_map(map_id, stamp)
            if event is not None:
                return event
            self._open_maps.popleft()
        return None

    def _advance_map(self, map_id: str, stamp: str) -> Event | None:
        step = self.state.steps[map_id]
        if step.status != "running":
            return None
        progress = self._maps.get(map_id)
        if progress is None:
            return self._expand(step, stamp)
        match progress.next_move():
            case "start":
                return self._start(item_id(map_id, progress.next_index), stamp)
            case "fail":
                item = self.state.steps[item_id(map_id, progress.first_failed)]
                error = f"item {progress.first_failed}: {item.error}"
                return self.record(failed(step, error, stamp))
            case "complete":
                return self.record(gathered(self.state, step, stamp))
            case "wait":
                return None

    def _expand(self, step: StepState, stamp: str) -> Event:
        try:
            items = checked_items(self._evaluate(self.plan.maps[step.node_id].for_each))
        except ExpressionError as error:
            return self.record(failed(step, f"for_each: {error}", stamp))
        expansion = StepExpansion(step.node_id, step.node_type, "running", items)
        return self.record(StepExpanded(expansion, stamp))

    # How it ends

    def _next_group(self, stamp: str) -> Event | None:
        """Begin the next group of nodes, if this part has settled."""
        if self._unsettled:
            return None
        outcome = outcome_of(self.plan, self.state, self._graph)
        group = group_after(self.plan, self._part, outcome)
        if group is None:
            return None
        return self.record(finishing_event(self.state, group, outcome, stamp))

    def _end(self, outcome: RunOutcome, stamp: str) -> Event:
        return self.record(last_event(self.plan, self.state, outcome, self.sensitivity, stamp))

    def stopped(self, now: float) -> list[Event]:
        """Return the events that stop an execution which :meth:`must_stop`, recorded already.

        They end it, or begin the next group of nodes. Signals that were accepted before are applied
        before that.
        """
        if not self.must_stop(now):
            return []
        stamp = format_timestamp(now)
        return [*self._apply_signals(stamp), *self._stop(stamp)]

    def _stop(self, stamp: str) -> Iterator[Event]:
        state = self.state
        has_begun, is_cancelled = state.started_at is not None, state.cancel is not None
        if is_cancelled:
            outcome = RunOutcome("cancelled")
        else:
            outcome = RunOutcome("failed", f"timed out after {self.plan.definition.timeout}")
        group = group_after(self.plan, self._part, outcome) if has_begun else None
        if state.status == "paused" and (group or not is_cancelled):
            yield self.record(ExecutionResumed(Resumed(state.execution_id, "running"), stamp))
        if group is not None:
            yield self.record(finishing_event(state, group, outcome, stamp))
        else:
            yield self._end(outcome, stamp)

    def _apply_signals(self, stamp: str) -> Iterator[Event]:
        if (signalled := self._first_signalled) and self.state.status == "paused":
            resumed = Resumed(self.state.execution_id, "running", signalled)
            yield self.record(ExecutionResumed(resumed, stamp))
        while self._signalled:
            if event := self._apply_signal(stamp):
                yield event

    def _is_stale(self, due: float, node: str) -> bool:
        return self.state.steps[node].due != due
