"""Invariants of the parts of a run in one log: holds, pauses, maps, groups and its end."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from harness.models.log_reading import Reading, Rule, map_work, name_of, waits_for
from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import (
    TERMINAL,
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
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWaiting,
)
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import StepState, awaits_signal
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.expressions.template import compile_template


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
        elif waits_for(step, "time") or waits_for(step, "signal"):
            yield f"the wait of {event.data.node_id} ends while the execution is held"


class Pauses(Rule):
    """``execution:paused`` agrees with the state of the steps."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the steps at each pause."""
        if not isinstance(event, ExecutionPaused):
            return
        steps = at.state.steps.values()
        signals = [step.node_id for step in steps if waits_for(step, "signal")]
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
            yield f"{name_of(event)} of {item}, whose map is {parent.status}"
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
            yield f"{name_of(event)} of {node_id}, which is not in {part}"

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
            yield f"{name_of(event)} comes after the end"
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
