"""A run and its child runs, in time that skips."""

import heapq
import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tailrace.testing.actions import Action
from tailrace.testing.attempts import Attempts
from tailrace.testing.result import InvalidWorkflowError, ScriptError
from tailrace_shared.errors import ExpressionError, IllegalCommandError
from tailrace_shared.execution import commands
from tailrace_shared.execution.evaluation import evaluate, final_output
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    TERMINAL,
    Command,
    CommandRequested,
    Event,
    Origin,
    Parent,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, StepState, awaits_signal
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.schemas.input_schema import check_value, compile_schema
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded, end_event, lost
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

_MAX_CRASHES: Final = 3
_MAX_DEPTH: Final = 10


class SimulatedRun:
    """One execution of the world."""

    def __init__(
        self, plan: Plan, queued: Event, parent: "tuple[SimulatedRun, str, int] | None"
    ) -> None:
        self.plan = plan
        self.log: list[Event] = []
        self.state = ExecutionState()
        self.state.apply(queued)
        self.log.append(queued)
        self.scheduler = Scheduler(plan, self.state)
        self.parent = parent

    def record(self, event: Event) -> None:
        """Append an event."""
        self.log.append(self.scheduler.record(event))


class World:
    """A run and its child runs, in one time."""

    def __init__(
        self,
        root: Plan,
        children: Sequence[Plan],
        attempts: Attempts,
        now: float,
        source: random.Random,
    ) -> None:
        self.now = now
        self._begun = now
        self._plans = {plan.definition.id: plan for plan in (root, *children)}
        self._attempts = attempts
        self._source = source
        self._runs: list[SimulatedRun] = []
        self._numbers = itertools.count(1)
        # Attempts that take time: when they end, and which they are.
        self._running: list[tuple[float, int, SimulatedRun, str, int, Outcome, list[Event]]] = []
        self._crashes: dict[str, int] = {}
        # For `lookback`: when triggers were sent.
        self._triggers: list[tuple[float, str, Any]] = []

    def start(
        self,
        plan: Plan,
        run_input: Any,
        origin: Origin,
        parent: tuple[SimulatedRun, str, int] | None = None,
        execution_id: str = "",
    ) -> SimulatedRun:
        """Start a run.

        Raises:
            InvalidWorkflowError: it does not accept the input.
        """
        schema = plan.definition.input
        if schema is not None:
            checked = check_value(compile_schema(schema), "input", run_input, MAX_VALUE_BYTES)
            if checked.problems:
                raise InvalidWorkflowError(
                    "the input is not what the workflow asks for", checked.problems
                )
            run_input = checked.value
        run_id = execution_id or f"test-{next(self._numbers)}"
        queued = commands.create(run_id, plan.definition, 1, run_input, self.now, origin)
        started = SimulatedRun(plan, queued, parent)
        self._runs.append(started)
        return started

    def play(self, root: SimulatedRun, script: Sequence[Action]) -> None:
        """Let time pass until the run has ended, or nothing can happen any more.

        Raises:
            ScriptError: an action of the script could not happen.
        """
        for action in script:
            if action.kind == "crash":
                self._crashes[action.node] = action.fields["times"]
        waiting = [action for action in script if action.kind != "crash" and action.at is None]
        timed = sorted(
            (action for action in script if action.kind != "crash" and action.at is not None),
            key=lambda action: action.at or 0.0,
        )
        while True:
            self._settle()
            if root.state.is_terminal:
                break
            if any(self._applies(action, root) for action in waiting):
                action = next(each for each in waiting if self._applies(each, root))
                waiting.remove(action)
                self._act(action, root)
                continue
            at = self._begun + (timed[0].at or 0.0) if timed else None
            due = self._next_due()
            if due is None and at is None:
                break
            if at is not None and (due is None or at <= due):
                self.now = max(self.now, at)
                self._settle()
                self._act(timed.pop(0), root)
            elif due is not None:
                self.now = max(self.now, due)
        if left := [*waiting, *timed]:
            names = ", ".join(map(str, left))
            raise ScriptError(f"the run is {root.state.status}, and never came to: {names}")

    # Time

    def _next_due(self) -> float | None:
        times = [run.scheduler.next_due for run in self._runs if not run.state.is_terminal]
        times += [self._running[0][0]] if self._running else []
        known = [time for time in times if time is not None]
        return min(known) if known else None

    def _settle(self) -> None:
        """Do all that must happen now, in all runs."""
        while True:
            moved = self._end_attempts()
            for run in tuple(self._runs):
                moved = self._turn(run) or moved
            if not moved:
                return

    def _end_attempts(self) -> bool:
        moved = False
        while self._running and self._running[0][0] <= self.now:
            _at, _n, run, step_id, attempt, outcome, reports = heapq.heappop(self._running)
            step = run.state.steps[step_id]
            if step.status == "running" and step.attempt == attempt and not run.state.is_terminal:
                self._end(run, step, outcome, reports)
                moved = True
        return moved

    def _turn(self, run: SimulatedRun) -> bool:
        state, scheduler, moved = run.state, run.scheduler, False
        if state.is_terminal:
            return False
        while not state.is_terminal:
            if scheduler.must_stop(self.now):
                self._stop_children(run)
                run.log += scheduler.stopped(self.now)
                moved = True
                continue
            decided = scheduler.decide(self.now)
            if not decided:
                break
            moved = True
            run.log += decided
            for event in decided:
                if isinstance(event, StepStarted) and event.data.node_id not in run.plan.maps:
                    self._begin(run, event.data.node_id)
            for step_id in scheduler.take_timed_out():
                self._time_out(run, step_id)
        if isinstance(run.log[-1], TERMINAL):
            self._wake_parent(run)
        return moved

    # Attempts

    def _begin(self, run: SimulatedRun, step_id: str) -> None:
        step, planned = run.state.steps[step_id], run.plan.step(step_id)
        if step.status != "running":
            return
        if self._crashes.get(step_id, 0) > 0:
            self._crashes[step_id] -= 1
            if step.crashes + 1 >= _MAX_CRASHES:
                error = f"its worker was lost {step.crashes + 1} times while it ran"
                self._end(run, step, Erred(error, retryable=False), [])
            else:
                run.record(lost(step, planned.node, "crash", "its worker was lost", self.now))
            return
        if planned.node.type == "emit":
            outcome, reports, seconds = self._emit(run, step_id), list[Event](), 0.0
        else:
            outcome, reports, seconds = self._attempts.run(planned, run.state, step, self.now)
        limit = planned.node.timeout_seconds
        if limit is not None and seconds > limit:
            outcome, seconds = Erred(f"timed out after {planned.node.timeout}"), limit
        if seconds:
            ends_at, number = self.now + seconds, next(self._numbers)
            entry = (ends_at, number, run, step_id, step.attempt, outcome, reports)
            heapq.heappush(self._running, entry)
        else:
            self._end(run, step, outcome, reports)

    def _end(
        self, run: SimulatedRun, step: StepState, outcome: Outcome, reports: Iterable[Event]
    ) -> None:
        for report in reports:
            run.record(report)
        node = run.plan.step(step.node_id).node
        run.record(end_event(step, outcome, node, self.now, self._source.random()))
        wait = step.waiting
        if step.status != "waiting" or wait is None:
            return
        if wait.wait == "child":
            self._start_child(run, step)
        elif wait.wait == "signal" and wait.lookback:
            for sent, procedure, data in self._triggers:
                if sent >= self.now - wait.lookback and self._send(run, step, procedure, data):
                    return

    # Child runs

    def _start_child(self, run: SimulatedRun, step: StepState) -> None:
        wait = step.waiting
        if wait is None:
            return
        parent = Parent(run.state.execution_id, step.node_id)
        depth = run.state.depth + 1
        origin = Origin(parent, depth, root=run.state.root or run.state.execution_id)
        plan = self._plans.get(wait.child_workflow_id or "")
        try:
            if depth > _MAX_DEPTH:
                problem = f"runs within runs {depth} deep; the limit is {_MAX_DEPTH}"
            elif plan is None:
                problem = f"there is no workflow {wait.child_workflow_id!r}: pass it in workflows"
            else:
                link = (run, step.node_id, wait.attempt)
                self.start(plan, wait.child_input, origin, link, wait.child_execution_id or "")
                return
        except InvalidWorkflowError as error:
            problem = str(error)
        self._end(run, step, Erred(problem, retryable=False), [])

    def _wake_parent(self, run: SimulatedRun) -> None:
        if run.parent is None:
            return
        parent, step_id, attempt = run.parent
        run.parent = None
        step = parent.state.steps[step_id]
        is_awaited = step.waiting is not None and step.waiting.attempt == attempt
        if is_awaited and step.status == "waiting" and not parent.state.is_terminal:
            self._end(parent, step, self._outcome_of(run), [])

    def _outcome_of(self, run: SimulatedRun) -> Outcome:
        state = run.state
        if state.status == "completed":
            output = (
                final_output(state, run.plan.definition) if state.output_omitted else (state.output)
            )
            return Succeeded(output, sensitive=state.output_sensitive)
        error = state.error or "no reason given"
        return Erred(f"its run {state.execution_id} was {state.status}: {error}")

    def _stop_children(self, run: SimulatedRun) -> None:
        for child in self._runs:
            if child.parent is not None and child.parent[0] is run:
                reason = f"its parent {run.state.execution_id} was cancelled"
                self._cancel(child, reason)

    def _time_out(self, run: SimulatedRun, step_id: str) -> None:
        step = run.state.steps[step_id]
        for child in self._runs:
            if child.parent is not None and child.parent[:2] == (run, step_id):
                self._cancel(child, f"its parent {run.state.execution_id} gave it up")
                child.parent = None
        self._end(run, step, Erred(run.scheduler.timeout_message(step)), [])

    def _cancel(self, run: SimulatedRun, reason: str, actor: str = "") -> None:
        self._request(
            run, commands.request_cancel(run.state, self._command_id, reason, self.now, actor)
        )

    # Signals and commands

    def _applies(self, action: Action, root: SimulatedRun) -> bool:
        """Return whether an action without a time is possible now."""
        match action.kind:
            case "resolve":
                return self._awaiting(action.node) is not None
            case "trigger":
                procedure, data = action.fields["procedure"], action.fields["data"]
                return any(True for _ in self._matching(procedure, data))
            case "resume":
                return root.state.is_held
            case _:
                return root.state.started_at is not None

    def _act(self, action: Action, root: SimulatedRun) -> None:
        now, fields, state = self.now, action.fields, root.state
        try:
            match action.kind:
                case "resolve":
                    self._decide(action)
                case "trigger":
                    self._trigger(fields["procedure"], fields["data"])
                case "cancel":
                    self._cancel(root, fields["reason"], fields["actor"])
                case "pause":
                    request = commands.request_pause(
                        state, self._command_id, "", now, fields["actor"]
                    )
                    self._request(root, request)
                case "resume":
                    request = commands.request_resume(state, self._command_id, now, fields["actor"])
                    self._request(root, request)
        except IllegalCommandError as error:
            at = "" if action.at is None else f" {action.at:g} s after the start"
            raise ScriptError(f"{action}{at}: {error}") from None

    def _decide(self, action: Action) -> None:
        run = self._awaiting(action.node) or self._runs[0]
        step, fields = commands.signalled_step(run.state, action.node), dict(action.fields)
        form = step.waiting.form if step.waiting else None
        if form is not None and (fields["data"] is not None or fields["decision"] == "approved"):
            value = {} if fields["data"] is None else fields["data"]
            checked = check_value(compile_schema(form), "data", value, MAX_VALUE_BYTES)
            if checked.problems:
                problems = "; ".join(f"{p.pointer}: {p.detail}" for p in checked.problems)
                raise ScriptError(f"{action}: the data is not what the step asks for: {problems}")
            fields["data"] = checked.value
        self._resolve(run, step, **fields)

    def _awaiting(self, node: str) -> SimulatedRun | None:
        for run in self._runs:
            step = run.state.steps.get(node)
            if step is not None and awaits_signal(step) and not run.state.must_stop:
                return run
        return None

    def _trigger(self, procedure: str, data: Any) -> int:
        self._triggers.append((self.now, procedure, data))
        matching = list(self._matching(procedure, data))
        for run, step in matching:
            self._resolve(run, step, event=data, procedure=procedure)
        return len(matching)

    def _matching(self, procedure: str, data: Any) -> Iterable[tuple[SimulatedRun, StepState]]:
        for run in self._runs:
            if run.state.is_terminal or run.state.must_stop:
                continue
            for step in run.state.steps.values():
                if awaits_signal(step) and self._matches(run, step, procedure, data):
                    yield run, step

    def _matches(self, run: SimulatedRun, step: StepState, procedure: str, data: Any) -> bool:
        wait = step.waiting
        if wait is None or procedure not in wait.triggers:
            return False
        if wait.match is None:
            return True
        try:
            return evaluate(compile_expression(wait.match), run.state, {"event": data}) is True
        except ExpressionError:
            return False

    def _send(self, run: SimulatedRun, step: StepState, procedure: str, data: Any) -> bool:
        if not self._matches(run, step, procedure, data):
            return False
        self._resolve(run, step, event=data, procedure=procedure)
        return True

    def _emit(self, run: SimulatedRun, step_id: str) -> Outcome:
        rendered = self._attempts.parameters(run.plan.step(step_id), run.state, step_id)
        if isinstance(rendered, Erred):
            return rendered
        data = rendered.get("data")
        return Succeeded(
            {"matched": self._trigger(rendered["procedure"], {} if data is None else data)}
        )

    def _resolve(self, run: SimulatedRun, step: StepState, **fields: Any) -> None:
        command = Command(
            run.state.execution_id, "resolve", self._command_id, node_id=step.node_id, **fields
        )
        self._request(run, commands.request_resolve(run.state, command, self.now))

    def _request(self, run: SimulatedRun, request: CommandRequested | None) -> None:
        if request is not None:
            run.record(request)

    @property
    def _command_id(self) -> str:
        return f"command-{next(self._numbers)}"
