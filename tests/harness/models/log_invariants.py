"""Invariants of a single log, checked against the log and the definition alone.

Each rule sees every event before it is folded, and yields a sentence for each violation. The rules
express the guarantees of the engine in terms of the definition; the fold is the only product code
that they depend on.

A writer may write again after another one, when it receives the job a second time. It must never
end or report on an attempt that it began before it was displaced: the rule ``Writers`` checks that.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import evaluate, render
from tailrace_shared.execution.events import (
    TERMINAL,
    Command,
    CommandRequested,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionFinishing,
    ExecutionPaused,
    StepCompleted,
    StepEvent,
    StepExpanded,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import (
    ExecutionState,
    IllegalEventError,
    StepState,
    awaits_signal,
)
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.stores.execution_log import Commit
from tailrace_shared.workflow.definition import Definition, MapWork, Node
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.expressions.template import compile_template
from tailrace_shared.workflow.graph import Graph, graph_of
from tailrace_worker.engine.decide.retry_policy import retry_delay

_TOLERANCE_S: Final = 0.0015
"""Seconds of tolerance: timestamps are truncated to milliseconds."""

_NO_STEP: Final = StepState("")

_LONGEST_LINE: Final = 500
"""Characters of a commit in the report of a violation."""


class Record(NamedTuple):
    """A stored execution: its definition and its log."""

    definition: Definition
    commits: Sequence[Commit]

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return [event for commit in self.commits for event in commit.events()]


class Reading:
    """The position in a log: the state before the current event, and the writer of its commit.

    Attributes:
        definition: the workflow.
        state: the folded events before the current one.
        writer: the writer of the current commit; empty for the API and for actors.
        sequence: the stream sequence of the current commit.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.state = ExecutionState()
        self.writer = ""
        self.sequence = 0

    @cached_property
    def graph(self) -> Graph:
        """The graph of the definition."""
        return graph_of(self.definition)

    def step(self, step_id: str) -> StepState:
        """Return a step as it is before the current event."""
        return self.state.steps.get(step_id, _NO_STEP)

    def node(self, step_id: str) -> Node:
        """Return the node of a step; for an item, the ``do`` of its map."""
        node_id, index = split_item_id(step_id)
        node = self.definition.all_nodes[node_id]
        node = node if index is None else map_work(node).do.node()
        return self.definition.with_defaults(node)

    def join(self, node_id: str) -> Literal["ready", "never", "open"]:  # noqa: PLR0911 - a table
        """Return whether a node's needs allow it to run: now, never, or not yet."""
        node = self.definition.all_nodes[node_id]
        needs = [self.step(need) for need in node.needs]
        settled = all(need.status in SETTLED for need in needs)
        succeeded = any(self._succeeded(need) for need in needs)
        match node.join:
            case "any":
                if succeeded or not needs:
                    return "ready"
                return "never" if settled else "open"
            case "all_done":
                return "ready" if settled else "open"
            case "all":
                if any(need.status in SETTLED and not self._satisfies(need) for need in needs):
                    return "never"
                return "ready" if settled else "open"
            case "all_success":
                if any(need.status in SETTLED and not self._succeeded(need) for need in needs):
                    return "never"
                return "ready" if settled else "open"

    def _succeeded(self, need: StepState) -> bool:
        return need.status == "success" or (
            need.status == "error" and self.goes_on_after(need.node_id)
        )

    def _satisfies(self, need: StepState) -> bool:
        return self._succeeded(need) or need.skipped_by_when

    def goes_on_after(self, node_id: str) -> bool:
        """Return whether the run goes on after a failure of a node."""
        return self.definition.all_nodes[node_id].on_error == "continue"

    def times_out(self, event: Event) -> Iterator[str]:
        """Yield a violation if the time limit of the workflow has not passed at an event."""
        limit, started_at = self.definition.timeout_seconds, self.state.started_at
        if limit is None or started_at is None:
            yield "the execution times out, but it has no time limit or has not started"
        else:
            yield from _on_time(event, "the run", parse_timestamp(started_at) + limit)


def map_work(node: Node) -> MapWork:
    """Return the decoded ``with`` of a ``map``."""
    return msgspec.convert(node.parameters, MapWork)


class Rule(ABC):
    """An invariant of one log."""

    @abstractmethod
    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Yield the violations of an event that is not folded yet."""


class Starts(Rule):
    """A node runs, or is skipped, only as its needs and its condition require."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check how each node leaves `pending`."""
        if not isinstance(event, StepEvent):
            return
        node_id, index = split_item_id(event.data.node_id)
        if node_id not in at.definition.all_nodes:
            yield f"{node_id} is not a node of the definition"
        elif index is None and at.step(node_id).status == "pending":
            yield from self._leaves_pending(event, node_id, at)

    def _leaves_pending(self, event: StepEvent, node_id: str, at: Reading) -> Iterator[str]:
        if isinstance(event, StepCompleted):
            # A rerun of a rerun may keep a completion of the first execution.
            if event.data.kept_from is None or at.state.rerun_of is None:
                yield f"{node_id} has succeeded without having run"
            return
        if at.state.status != "running":
            yield f"{node_id} is decided on in an execution that is {at.state.status}"
        join = at.join(node_id)
        is_unneeded = isinstance(event, StepSkipped) and event.data.reason == "needs"
        if is_unneeded and join != "never":
            yield f"{node_id} is skipped because of its needs, which are {join}"
        elif not is_unneeded and join != "ready":
            yield f"{node_id} is decided on although its needs are {join}"
        elif not is_unneeded:
            yield from self._is_wanted(event, node_id, at)

    def _is_wanted(self, event: StepEvent, node_id: str, at: Reading) -> Iterator[str]:
        condition = at.definition.all_nodes[node_id].when
        wanted: Any = True
        if condition is not None:
            try:
                wanted = evaluate(compile_expression(condition), at.state)
            except ExpressionError as error:
                if "has not been fetched" in str(error):
                    return
                wanted = None
        if isinstance(event, StepSkipped) and wanted is not False:
            yield f"{node_id} is skipped although its condition is {wanted}"
        if isinstance(event, StepStarted | StepWaiting) and wanted is not True:
            yield f"{node_id} runs although its condition is {wanted}"


class Attempts(Rule):
    """Attempts are numbered 1 to n, follow the retry policy, and no timer is early."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check each start and each end of an attempt."""
        match event:
            case StepStarted():
                step = at.step(event.data.node_id)
                if event.data.attempt != step.attempt + 1:
                    yield (
                        f"{event.data.node_id} begins attempt {event.data.attempt} "
                        f"after attempt {step.attempt}"
                    )
                if step.status == "retrying":
                    yield from _on_time(event, event.data.node_id, step.due)
            case StepCompleted() | StepFailed() | StepRetrying():
                step = at.step(event.data.node_id)
                is_kept = isinstance(event, StepCompleted) and event.data.kept_from is not None
                if event.data.attempt != step.attempt and not is_kept:
                    yield (
                        f"{event.data.node_id} ends attempt {event.data.attempt} "
                        f"while attempt {step.attempt} is the newest"
                    )
                if isinstance(event, StepCompleted) and _waits_for(step, "time"):
                    yield from _on_time(event, event.data.node_id, step.due)
                if isinstance(event, StepRetrying):
                    yield from self._again(event, step, at)

    def _again(self, event: StepRetrying, step: StepState, at: Reading) -> Iterator[str]:
        node_id, cause = event.data.node_id, event.data.cause
        node = at.node(node_id)
        if cause == "crash" and node.on_crash == "fail":
            yield f"{node_id} is tried again after a crash, which its definition forbids"
        if cause != "error":
            return
        shortest = retry_delay(node.retry, step.failures + 1, 0.0)
        longest = retry_delay(node.retry, step.failures + 1, 1.0)
        if shortest is None or longest is None:
            yield f"{node_id} is tried again after {step.failures + 1} failures"
            return
        delay = parse_timestamp(event.data.retry_at) - parse_timestamp(event.timestamp)
        if not shortest - _TOLERANCE_S <= delay <= longest + _TOLERANCE_S:
            yield f"{node_id} is tried again after {delay:.3f} s, not {shortest} to {longest} s"


def _on_time(event: Event, node_id: str, due: float | None) -> Iterator[str]:
    early = 0.0 if due is None else due - parse_timestamp(event.timestamp)
    if early > _TOLERANCE_S:
        yield f"the timer of {node_id} comes {early:.3f} s early"


def _waits_for(step: StepState, kind: str) -> bool:
    return step.status == "waiting" and step.waiting is not None and step.waiting.wait == kind


class Writers(Rule):
    """Only the writer that began an attempt reports on it or ends it; others declare it lost."""

    def __init__(self) -> None:
        self._began: dict[str, str] = {}

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the writer of each event of an attempt."""
        if not at.writer and not self._may_be_unsigned(event, at):
            yield f"{_name(event)} has no writer"
        if isinstance(event, StepStarted):
            if event.data.remote == bool(at.writer):
                yield f"an attempt of {event.data.node_id} is begun by {at.writer or 'an actor'}"
            self._began[event.data.node_id] = at.writer
        elif isinstance(event, StepEvent) and not isinstance(event, StepSkipped):
            yield from self._goes_on(event, at)

    def _may_be_unsigned(self, event: Event, at: Reading) -> bool:
        """Return whether the API or an actor, which have no writer's name, may write an event."""
        if isinstance(event, StepStarted):
            return event.data.remote
        if isinstance(event, StepEvent):
            return at.step(event.data.node_id).is_remote
        return isinstance(event, CommandRequested) or at.state.created_at is None

    def _goes_on(self, event: StepEvent, at: Reading) -> Iterator[str]:
        node_id = event.data.node_id
        step = at.step(node_id)
        began = self._began.get(node_id)
        runs_locally = step.status == "running" and step.items is None
        if not runs_locally or at.writer == began or self._is_loss(event, step):
            return
        yield f"{_name(event)} of {node_id} is by {at.writer}, but its attempt by {began}"

    def _is_loss(self, event: StepEvent, step: StepState) -> bool:
        match event:
            case StepRetrying():
                return event.data.cause in {"crash", "handover"}
            case StepFailed():
                return "lost" in event.data.error
            case StepCompleted() | StepWaiting() | StepExpanded() | StepProgressed() | StepLogged():
                return False
            case _:
                return step.is_remote


class Holds(Rule):
    """While an execution is held, no step starts, no timer fires, and no signal is applied.

    A request to cancel lifts the hold: signals accepted before it are applied before the end.
    """

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check events between a request to pause and the request to resume."""
        is_held = at.state.is_held and at.state.cancel is None
        if not is_held or not isinstance(event, StepEvent):
            return
        step = at.step(event.data.node_id)
        if isinstance(event, StepStarted):
            yield f"{event.data.node_id} starts while the execution is held"
        elif isinstance(event, StepWaiting) and step.status in {"pending", "retrying"}:
            yield f"{event.data.node_id} begins to wait while the execution is held"
        elif _waits_for(step, "time") or _waits_for(step, "signal"):
            yield f"the wait of {event.data.node_id} ends while the execution is held"


class Pauses(Rule):
    """``execution:paused`` agrees with the state of the steps."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the steps at each pause."""
        if not isinstance(event, ExecutionPaused):
            return
        steps = at.state.steps.values()
        signals = [step.node_id for step in steps if _waits_for(step, "signal")]
        running = [step.node_id for step in steps if step.status == "running" and not step.items]
        if running:
            yield f"the execution is paused while {', '.join(running)} runs"
        if event.data.requested and not at.state.is_held:
            yield "the execution is paused by request, but there was no request"
        if not event.data.requested:
            yield from self._awaits_a_signal(at)
        unsignalled = {step.node_id for step in steps if awaits_signal(step)}
        if not unsignalled <= set(event.data.waiting) <= set(signals):
            yield f"the pause lists {event.data.waiting}, but {signals} wait for a signal"

    def _awaits_a_signal(self, at: Reading) -> Iterator[str]:
        steps = at.state.steps.values()
        if not any(awaits_signal(step) for step in steps):
            yield "the execution is paused, but no step awaits a signal"
        for step in steps:
            is_open = step.status == "waiting" and not awaits_signal(step)
            if step.status == "retrying" or is_open:
                yield f"the execution is paused although {step.node_id} will go on by itself"


class Items(Rule):
    """Items of a map: within its list, at most ``max_parallel`` at once, none after its end."""

    def __init__(self) -> None:
        self._open: dict[str, set[str]] = {}
        self._failed: set[str] = set()

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the events of items and the end of their map."""
        if not isinstance(event, StepEvent):
            return
        node_id, index = split_item_id(event.data.node_id)
        if index is not None:
            yield from self._item(event, node_id, index, at)
        elif at.step(node_id).items is not None and not isinstance(event, StepExpanded):
            yield from self._map(event, at.step(node_id), at)

    def _item(self, event: StepEvent, node_id: str, index: int, at: Reading) -> Iterator[str]:
        item, parent = event.data.node_id, at.step(node_id)
        if isinstance(event, StepCompleted) and event.data.kept_from is not None:
            return  # before the map begins
        if parent.status != "running" or parent.items is None:
            yield f"{_name(event)} of {item}, whose map is {parent.status}"
            return
        if not 0 <= index < len(parent.items):
            yield f"{item} is not one of {len(parent.items)} items"
        at_work = self._open.setdefault(node_id, set())
        match event:
            case StepStarted() | StepWaiting():
                yield from self._begins(event, node_id, at)
                at_work.add(item)
            case StepCompleted() | StepFailed() | StepRetrying() | StepSkipped():
                at_work.discard(item)
                if isinstance(event, StepFailed):
                    self._failed.add(node_id)

    def _begins(self, event: StepEvent, node_id: str, at: Reading) -> Iterator[str]:
        work, item = map_work(at.definition.all_nodes[node_id]), event.data.node_id
        at_work = self._open[node_id]
        if item not in at_work and len(at_work) >= work.max_parallel:
            yield f"{item} starts beside {len(at_work)} others of {work.max_parallel}"
        is_new = at.step(item).status == "pending"
        if is_new and work.on_error == "fail" and node_id in self._failed:
            yield f"{item} starts although an item before it has failed"

    def _map(self, event: StepEvent, parent: StepState, at: Reading) -> Iterator[str]:
        found = [at.step(f"{parent.node_id}[{i}]") for i in range(len(parent.items or []))]
        if isinstance(event, StepFailed | StepCompleted | StepRetrying):
            for item in found:
                if item.status == "running":
                    yield f"{parent.node_id} ends while {item.node_id} runs"
        if isinstance(event, StepCompleted):
            yield from self._completes(event, found, at)

    def _completes(
        self, event: StepCompleted, found: Sequence[StepState], at: Reading
    ) -> Iterator[str]:
        node_id = event.data.node_id
        fails = map_work(at.definition.all_nodes[node_id]).on_error == "fail"
        for index, item in enumerate(found):
            if item.status not in {"success", "error"} or (fails and item.status == "error"):
                yield f"{node_id} completes although its item {index} is {item.status}"
        if event.data.output_omitted or any(item.output is msgspec.UNSET for item in found):
            return
        expected = [
            item.output if item.status == "success" else {"error": item.error} for item in found
        ]
        if event.data.output_ref is None and event.data.output != expected:
            yield f"the output of {node_id} is not its items' in order"


class Signals(Rule):
    """A wait ends once, by the signal in the log or by its timeout, and reports which."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check each signal, and each end of a wait."""
        if isinstance(event, CommandRequested):
            yield from self._comes(event, at)
        elif isinstance(event, StepCompleted | StepFailed | StepRetrying):
            step = at.step(event.data.node_id)
            if _waits_for(step, "signal") and step.waiting is not None:
                yield from self._ends(event, step, step.waiting)

    def _comes(self, event: CommandRequested, at: Reading) -> Iterator[str]:
        command = event.data
        if command.command != "resolve" or command.procedure is None:
            return
        waiting = at.step(command.node_id or "").waiting
        if waiting is None:
            return
        if command.procedure not in waiting.triggers:
            yield f"{command.node_id} does not wait for {command.procedure}"
        if waiting.match is not None:
            names = {"event": command.event}
            if evaluate(compile_expression(waiting.match), at.state, names) is not True:
                yield f"{command.node_id} receives an event that does not match"

    def _ends(
        self, event: StepCompleted | StepFailed | StepRetrying, step: StepState, waiting: StepWait
    ) -> Iterator[str]:
        node_id = step.node_id
        match event:
            case StepRetrying():
                yield f"{node_id} is tried again although it waits for a signal"
            case StepCompleted() if step.resolution is not None:
                signal = step.resolution
                if waiting.on_reject == "fail" and signal.decision == "rejected":
                    yield f"{node_id} succeeds although it was rejected"
                if event.data.output != _answer(signal):
                    yield f"{node_id} has the output {event.data.output}, not that of its signal"
            case StepCompleted():
                yield from self._times_out(event, step, waiting, "continue")
                decision = (event.data.output or {}).get("decision")
                if decision != "timeout":
                    yield f"{node_id} has the decision {decision!r}, but there was no signal"
            case StepFailed() if step.resolution is not None:
                if waiting.on_reject != "fail" or step.resolution.decision != "rejected":
                    yield f"{node_id} fails although it has its signal"
            case StepFailed():
                yield from self._times_out(event, step, waiting, "fail")

    def _times_out(
        self, event: Event, step: StepState, waiting: StepWait, how: str
    ) -> Iterator[str]:
        if step.due is None:
            yield f"{step.node_id} ends although no signal has come and it has no timeout"
        elif waiting.on_timeout != how:
            yield f"{step.node_id} times out by {how}, not by {waiting.on_timeout}"
        yield from _on_time(event, step.node_id, step.due)


def _answer(given: Command) -> dict[str, Any]:
    return {
        "decision": given.decision,
        "data": given.data,
        "actor": given.actor or None,
        "event": given.event,
    }


class Groups(Rule):
    """Each part follows the one before, as the definition and the outcome require."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the beginning of each group, its steps, and that no group is left out."""
        if isinstance(event, ExecutionFinishing):
            yield from self._begins(event, at)
        elif isinstance(event, StepEvent):
            yield from self._belongs(event, at)
        elif isinstance(event, TERMINAL) and not _is_hard(event):
            yield from self._is_last(at)

    def _begins(self, event: ExecutionFinishing, at: Reading) -> Iterator[str]:
        before, group = at.state.finishing, event.data.group
        if group not in at.definition.groups:
            yield f"{group} begins, which the definition does not have"
        if before is not None and (before.group, group) != ("on_failure", "finally"):
            yield f"{group} begins after {before.group}"
        if group == "on_failure" and (at.state.cancel or event.data.outcome != "failed"):
            yield "on_failure begins although the run was cancelled or has not failed"
        is_due = event.data.outcome == "failed" and not at.state.cancel
        if (
            group == "finally"
            and before is None
            and is_due
            and "on_failure" in at.definition.groups
        ):
            yield "finally begins after a failure without on_failure"
        if is_timeout(event):
            yield from at.times_out(event)

    def _belongs(self, event: StepEvent, at: Reading) -> Iterator[str]:
        node_id, _index = split_item_id(event.data.node_id)
        finishing = at.state.finishing
        nodes = at.definition.nodes if finishing is None else at.definition.groups[finishing.group]
        if node_id not in nodes:
            part = "the main part" if finishing is None else finishing.group
            yield f"{_name(event)} of {node_id}, which is not in {part}"

    def _is_last(self, at: Reading) -> Iterator[str]:
        if at.state.started_at is None or "finally" not in at.definition.groups:
            return
        if at.state.finishing is None or at.state.finishing.group != "finally":
            yield "the execution ends without finally"


def is_timeout(event: Event) -> bool:
    """Return whether the time limit of the workflow has ended the main part."""
    return (
        isinstance(event, ExecutionFailed | ExecutionFinishing)
        and event.data.node_id is None
        and event.data.error_message.startswith("timed out after")
    )


def _is_hard(event: Event) -> bool:
    """Return whether the execution could not be driven any further."""
    return isinstance(event, ExecutionFailed) and event.data.error_message.startswith(
        "there is no workflow"
    )


class Ending(Rule):
    """There is exactly one terminal event, it is the last, and it agrees with the steps."""

    def __init__(self) -> None:
        self._terminal = 0

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the terminal event against the steps before it."""
        if self._terminal:
            yield f"{_name(event)} comes after the end"
        if isinstance(event, TERMINAL):
            self._terminal += 1
        if at.state.cancel and isinstance(event, ExecutionCompleted | ExecutionFailed):
            yield f"the execution was to be cancelled, but is {event.data.status}"
        if at.state.must_stop and isinstance(event, StepStarted):
            yield f"{event.data.node_id} starts although the execution was to be cancelled"
        match event:
            case ExecutionCompleted():
                yield from self._all_settled(at)
                yield from self._completed(event, at)
            # Without its workflow, it is unknown which steps would have to settle.
            case ExecutionFailed() if _is_hard(event):
                pass
            case ExecutionFailed() if is_timeout(event):
                yield from at.times_out(event)
            case ExecutionFailed() if at.state.status != "queued":
                yield from self._all_settled(at)
                yield from self._failed(event, at)
            case ExecutionCancelled() if at.state.cancel is None and not event.data.reason:
                yield "the execution is cancelled, but there was no request"

    def _all_settled(self, at: Reading) -> Iterator[str]:
        finishing = at.state.finishing
        # What a group found unsettled, it has cancelled.
        nodes = at.definition.nodes if finishing is None else at.definition.groups[finishing.group]
        for node_id in nodes:
            status = at.step(node_id).status
            if status not in SETTLED:
                yield f"the execution ends while {node_id} is {status}"

    def _broken(self, at: Reading) -> list[str]:
        return [
            node
            for node in at.definition.all_nodes
            if at.step(node).status == "error" and not at.goes_on_after(node)
        ]

    def _is_mended(self, at: Reading) -> bool:
        on_failure = at.definition.on_failure
        return on_failure is not None and on_failure.then == "completed"

    def _completed(self, event: ExecutionCompleted, at: Reading) -> Iterator[str]:
        broken = self._broken(at)
        if self._is_mended(at):
            broken = [node for node in broken if node not in at.definition.nodes]
        if broken:
            yield f"the execution is completed although {', '.join(broken)} failed"
        leaves = [leaf for leaf in at.graph.leaves if leaf in at.state.steps]
        outputs = {leaf: at.step(leaf).output for leaf in leaves}
        if event.data.output_omitted or msgspec.UNSET in outputs.values():
            return
        expected: Any = outputs
        if at.definition.output is not None:
            try:
                expected = render(compile_template(at.definition.output), at.state)
            except ExpressionError:
                return
        if event.data.output != expected:
            yield f"the output is {event.data.output!r}, not {expected!r}"

    def _failed(self, event: ExecutionFailed, at: Reading) -> Iterator[str]:
        broken = self._broken(at)
        if not broken and not event.data.error_message.startswith("output: "):
            yield "the execution is failed although no step failed"
        if event.data.node_id is not None and event.data.node_id not in broken:
            yield f"{event.data.node_id} did not fail, but is named as the cause"


RULES: Final[tuple[type[Rule], ...]] = (
    Starts,
    Attempts,
    Writers,
    Holds,
    Pauses,
    Items,
    Signals,
    Groups,
    Ending,
)


def violations(record: Record, *, ended: bool = True) -> list[str]:
    """Return the violations in one log, as sentences.

    Args:
        ended: whether the execution must have ended.
    """
    return list(_violations(record, ended=ended))


def _violations(record: Record, *, ended: bool) -> Iterator[str]:
    rules = [rule() for rule in RULES]
    at = Reading(record.definition)
    for commit in record.commits:
        if commit.sequence <= at.sequence:
            yield f"the commit {commit.sequence} comes after {at.sequence}"
        at.sequence, at.writer = commit.sequence, commit.writer
        for event in commit.events():
            for rule in rules:
                yield from (f"{commit.sequence}: {problem}" for problem in rule.sees(event, at))
            try:
                at.state.apply(event)
            except IllegalEventError as error:
                yield f"{commit.sequence}: {error}"
                return
    if ended and not at.state.is_terminal:
        yield f"the execution has not ended: it is {at.state.status}"


def undriven_violations(state: ExecutionState) -> list[str]:
    """Return the violations of an execution that no worker drives: it must not look active."""
    if state.is_terminal or state.status == "queued":
        return []
    steps = state.steps.values()
    if state.is_held:
        runs = any(step.status == "running" and step.items is None for step in steps)
        is_paused = runs or state.status == "paused"
        return [] if is_paused else ["a pause was requested, and it is not paused"]
    if signalled := [step.node_id for step in steps if step.resolution is not None]:
        return [f"the signal of {', '.join(signalled)} has not been applied"]
    goes_on = any(_goes_on(step) for step in steps)
    if state.status == "running" and not goes_on:
        return ["it cannot proceed without a signal, and it is not paused"]
    return []


def _goes_on(step: StepState) -> bool:
    if step.status == "waiting":
        return not awaits_signal(step)
    return step.status in {"running", "retrying"} and step.items is None


def check(records: Iterable[Record], *, ended: bool = True) -> None:
    """Assert that each of some logs, taken alone, has no violation."""
    for record in records:
        problems = violations(record, ended=ended)
        assert not problems, _report(record, problems)


def _report(record: Record, problems: Sequence[str]) -> str:
    lines = [
        f"{commit.sequence} {commit.writer or '-'} {commit.payload.decode()}"[:_LONGEST_LINE]
        for commit in record.commits
    ]
    # The problems come last: the end of a long report is what is read first.
    return "\n".join([*lines, "", *problems])


def _name(event: Event) -> str:
    return str(type(event).__struct_config__.tag)
