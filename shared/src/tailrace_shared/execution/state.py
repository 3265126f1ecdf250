"""Fold the events of an execution into its state.

``transitions`` has the state machine; the fold applies it and keeps the data of each step. The
worker folds the log to recover, and the API folds it to answer requests, so both see the same
state.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ServiceError
from tailrace_shared.execution.commit_status import CommitStatus, digest_of_wait
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionFinishing,
    ExecutionPaused,
    ExecutionQueued,
    ExecutionResumed,
    ExecutionStarted,
    Failed,
    Finishing,
    OpenStep,
    OpenWait,
    OpenWaits,
    OutputRef,
    Parent,
    StepCompleted,
    StepDone,
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
from tailrace_shared.execution.items import item_id
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import (
    EXECUTION_TRANSITIONS,
    SETTLED,
    STEP_TRANSITIONS,
    TERMINAL_STATUSES,
    ExecutionStatus,
    StepStatus,
)
from tailrace_shared.workflow.definition import Overlap

_BEGUN: Final = frozenset({"running", "waiting", "retrying"})


class IllegalEventError(ServiceError):
    """The state machine does not allow an event; the log is corrupt."""


class StepState(msgspec.Struct):
    """The state of one step: a node, or one item of a map.

    Attributes:
        begun_at: start of its first attempt, or of its wait for an actor.
        due: the time of its timer, in seconds since the epoch.
        output: the output; UNSET while a referenced output (``output_ref``) is not fetched.
        is_remote: whether an actor runs the attempt.
        waiting_since: the timestamp of the event that started the wait for a signal.
        resolution: the signal that was accepted but is not applied yet.
        output_omitted: whether the output must be gathered from the items of the map.
        kept_from: the execution whose output a rerun reuses.
        stage: the node's name on the tenant feed.
        name: the node's display name.
        sensitive: pointers to sensitive values in the output.
        items_sensitive: pointers to sensitive values in the items.
    """

    node_id: str
    node_type: str = ""
    status: StepStatus = "pending"
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    begun_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    duration_ms: int | None = None
    output: Any = None
    output_ref: OutputRef | None = None
    error: str | None = None
    error_detail: str = ""
    percent: float | None = None
    due: float | None = None
    skipped_by_when: bool = False
    is_remote: bool = False
    waiting: StepWait | None = None
    waiting_since: str = ""
    resolution: Command | None = None
    items: list[Any] | None = None
    output_omitted: bool = False
    kept_from: str | None = None
    stage: str | None = None
    name: str = ""
    sensitive: list[str] = []
    items_sensitive: list[str] = []

    @property
    def runs_locally(self) -> bool:
        """Whether the worker that drives the execution runs an attempt of this step."""
        return self.status == "running" and not self.is_remote and self.items is None

    @property
    def waits_for_signal(self) -> bool:
        """Whether it waits for a signal, or for its accepted signal to be applied."""
        return (
            self.status == "waiting" and self.waiting is not None and self.waiting.wait == "signal"
        )


class ExecutionState(msgspec.Struct):
    """The state of one execution. Steps without events are pending."""

    execution_id: str = ""
    workflow_id: str = ""
    workflow_name: str = ""
    version: int = 0
    status: ExecutionStatus = "queued"
    input: Any = None
    sensitive: list[str] = []
    """Pointers to sensitive values in the input."""
    output: Any = None
    output_omitted: bool = False
    output_sensitive: list[str] = []
    """Pointers to sensitive values in the output."""
    error: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    cancel: CommandRequested | None = None
    is_held: bool = False
    """Whether a pause was requested."""
    is_paused_by_request: bool = False
    """Whether the status is ``paused`` because of a request."""
    parent: Parent | None = None
    depth: int = 0
    root: str | None = None
    rerun_of: str | None = None
    from_node: str | None = None
    reruns_failed: bool = False
    """Whether a rerun runs the steps again that have not succeeded."""
    is_revised: bool = False
    """Whether a rerun has another version or input than the execution that it repeats."""
    tags: list[str] = []
    commands: set[str] = set()
    """Ids of the accepted commands."""
    steps: dict[str, StepState] = {}
    signal_waits: int = 0
    """Number of steps that wait for a signal."""
    waits_digest: int = 0
    """Digest of these steps; see :mod:`tailrace_shared.execution.commit_status`."""
    has_sensitive_values: bool = False
    """Whether an output or a signal has sensitive values."""
    scheduled_at: str | None = None
    schedule: str | None = None
    overlap: Overlap | None = None
    finishing: Finishing | None = None
    """The group that has begun after the main part; None before that."""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def keeps_steps(self) -> bool:
        """Whether it is a rerun that may keep completions of the execution that it repeats."""
        return self.from_node is not None or self.reruns_failed

    @property
    def must_stop(self) -> bool:
        """Whether a cancellation is to be applied. The group ``finally`` is never cancelled."""
        return self.cancel is not None and (
            self.finishing is None or self.finishing.group != "finally"
        )

    @property
    def commit_status(self) -> CommitStatus:
        """The status for the headers of the last commit."""
        return CommitStatus(self.status, self.signal_waits, self.waits_digest)

    def waiting(self, limit: int) -> list[str]:
        """Return at most ``limit`` steps that wait for a signal."""
        if not self.signal_waits:
            return []
        return [id_ for id_, step in self.steps.items() if step.waits_for_signal][:limit]

    def step(self, node_id: str) -> StepState:
        state = self.steps.get(node_id)
        if state is None:
            state = self.steps[node_id] = StepState(node_id)
        return state

    def apply(self, event: Event) -> None:
        """Apply one event.

        Raises:
            IllegalEventError: the event is illegal in this state.
        """
        if isinstance(event, StepEvent):
            self._apply_to_step(event)
        else:
            self._apply_to_execution(event)

    def _apply_to_execution(self, event: Event) -> None:
        if isinstance(event, ExecutionQueued):
            self._create(event)
            return
        after = EXECUTION_TRANSITIONS.get((self.status, type(event)))
        if after is None or self.created_at is None:
            raise IllegalEventError(f"{_name(event)} while the execution is {self.status}")
        self.status = after
        match event:
            case ExecutionStarted():
                self.started_at = event.timestamp
            case ExecutionPaused():
                self.is_paused_by_request = event.data.requested
            case ExecutionResumed():
                self.is_paused_by_request = False
            case CommandRequested():
                self._accept(event)
            case ExecutionFinishing():
                self.finishing = event.data
                self.is_held = False
                self._close_steps(event.timestamp)
            case ExecutionCompleted() | ExecutionFailed() | ExecutionCancelled():
                self._finish(event)
            case _:
                pass

    def _create(self, event: ExecutionQueued) -> None:
        if self.created_at is not None:
            raise IllegalEventError("execution:queued is not the first event")
        self.execution_id = event.data.execution_id
        self.workflow_id = event.data.workflow_id
        self.workflow_name = event.data.workflow_name
        self.version = event.data.version
        self.input = event.data.input
        self.sensitive = event.data.sensitive
        self.parent = event.data.parent
        self.depth = event.data.depth
        self.root = event.data.root
        self.rerun_of = event.data.rerun_of
        self.from_node = event.data.from_node
        self.reruns_failed, self.is_revised = event.data.failed, event.data.revised
        self.scheduled_at = event.data.scheduled_at
        self.schedule, self.overlap = event.data.schedule, event.data.overlap
        self.tags = event.data.tags
        self.created_at = event.timestamp

    def _accept(self, event: CommandRequested) -> None:
        self.commands.add(event.data.command_id)
        match event.data.command:
            case "cancel":
                self.cancel = self.cancel or event
            case "pause":
                self.is_held = True
            case "resume":
                self.is_held = False
            case "resolve":
                step = self.steps.get(event.data.node_id or "")
                if step is None or not awaits_signal(step):
                    raise IllegalEventError(
                        f"a signal for {event.data.node_id}, which does not wait for one"
                    )
                step.resolution = event.data
                self.has_sensitive_values = self.has_sensitive_values or bool(event.data.sensitive)

    def _finish(self, event: ExecutionCompleted | ExecutionFailed | ExecutionCancelled) -> None:
        self.finished_at = event.timestamp
        self.duration_ms = event.data.execution_time_ms
        match event:
            case ExecutionCompleted():
                self.output = event.data.output
                self.output_omitted = event.data.output_omitted
                self.output_sensitive = event.data.sensitive
            case ExecutionFailed():
                self.error = described_failure(event.data)
            case ExecutionCancelled():
                self.error = event.data.reason or None
        self._close_steps(event.timestamp)

    def _close_steps(self, timestamp: str) -> None:
        """Cancel all steps that have begun and not ended."""
        self.signal_waits = self.waits_digest = 0
        for step in self.steps.values():
            if step.status not in SETTLED:
                step.status, step.waiting_since = "cancelled", ""
                step.completed_at = timestamp
                if step.started_at is not None:
                    elapsed = parse_timestamp(timestamp) - parse_timestamp(step.started_at)
                    step.duration_ms = max(0, round(elapsed * 1000))

    def open_steps(self, limit: int) -> list[OpenStep]:
        """Return at most ``limit`` steps that have begun and not ended."""
        begun = (step for step in self.steps.values() if step.status in _BEGUN)
        return [
            OpenStep(step.node_id, step.node_type, step.attempt, step.name, step.started_at)
            for step in islice(begun, limit)
        ]

    def open_waits(self, limit: int) -> OpenWaits:
        """Return at most ``limit`` waits for a signal that no accepted signal ends."""
        if not self.signal_waits:
            return OpenWaits([], [])
        open_ = (
            (step, step.waiting)
            for step in self.steps.values()
            if step.waits_for_signal and step.waiting is not None and step.resolution is None
        )
        waits, variables = [], list[dict[str, Any]]()
        for step, wait in islice(open_, limit):
            place = -1
            if wait.variables:
                if wait.variables not in variables:
                    variables.append(wait.variables)
                place = variables.index(wait.variables)
            triggers = tuple(wait.triggers)
            waits.append(
                OpenWait(step.node_id, step.waiting_since, wait.reason, triggers, wait.until, place)
            )
        return OpenWaits(waits, variables)

    def _apply_to_step(self, event: StepEvent) -> None:
        node_id = event.data.node_id
        step = self.steps.get(node_id) or StepState(node_id)
        after = STEP_TRANSITIONS.get((step.status, type(event)))
        # Reused outputs of a rerun are recorded before it starts.
        is_kept = isinstance(event, StepCompleted) and event.data.kept_from is not None
        expected = "queued" if is_kept else "running"
        if after is None or self.status != expected:
            raise IllegalEventError(
                f"{_name(event)} for {node_id}, which is {step.status}, "
                f"while the execution is {self.status}"
            )
        self.steps[node_id] = step
        self._count_wait(step, -1)
        step.status = after
        step.node_type = event.data.node_type
        if isinstance(event, StepCompleted | StepFailed | StepRetrying):
            self._end_attempt(step, event)
        else:
            self._continue_attempt(step, event)
            self._count_wait(step, 1, event.timestamp)

    def _count_wait(self, step: StepState, by: int, since: str = "") -> None:
        if step.waits_for_signal:
            self.signal_waits += by
            self.waits_digest ^= digest_of_wait(step.node_id, since or step.waiting_since)
            step.waiting_since = since

    def _continue_attempt(
        self,
        step: StepState,
        event: StepStarted | StepWaiting | StepExpanded | StepSkipped | StepProgressed | StepLogged,
    ) -> None:
        match event:
            case StepStarted():
                step.attempt = event.data.attempt
                step.started_at = event.data.started_at
                step.begun_at = step.begun_at or step.started_at
                step.is_remote = event.data.remote
                step.stage, step.name = event.data.stage, event.data.name
                step.error = step.due = step.percent = step.waiting = None
                step.error_detail = ""
            case StepWaiting():
                step.waiting = event.data
                step.begun_at = step.begun_at or event.timestamp
                until = event.data.until
                step.due = None if until is None else parse_timestamp(until)
            case StepExpanded():
                step.items = event.data.items
                step.items_sensitive = event.data.sensitive
            case StepSkipped():
                step.skipped_by_when = event.data.reason == "when"
            case StepProgressed():
                step.percent = event.data.percent
            case StepLogged():
                pass

    def _end_attempt(
        self, step: StepState, event: StepCompleted | StepFailed | StepRetrying
    ) -> None:
        step.due = step.waiting = step.resolution = None
        match event:
            case StepCompleted():
                self._complete(step, event.data)
            case StepFailed():
                # A step that fails without an attempt has no earlier event with its stage.
                step.stage = event.data.stage
                step.completed_at = event.data.completed_at
                step.duration_ms = event.data.duration_ms
                step.error = event.data.error
                step.error_detail = event.data.error_detail
            case StepRetrying():
                step.failures += event.data.cause == "error"
                step.crashes += event.data.cause == "crash"
                step.error = event.data.error
                step.error_detail = event.data.error_detail
                step.due = parse_timestamp(event.data.retry_at)

    def _complete(self, step: StepState, done: StepDone) -> None:
        step.attempt = done.attempt
        step.started_at = step.started_at or done.started_at
        step.completed_at = done.completed_at
        step.duration_ms = done.duration_ms
        step.output_ref = done.output_ref
        step.kept_from = done.kept_from
        step.sensitive = done.sensitive
        self.has_sensitive_values = self.has_sensitive_values or bool(done.sensitive)
        step.stage = done.stage
        step.output_omitted = done.output_omitted
        if done.output_omitted:
            step.output = self.gathered_output(step)
        else:
            step.output = msgspec.UNSET if done.output_ref else done.output

    def gathered_output(self, step: StepState) -> list[Any] | msgspec.UnsetType:
        """Return the output of a map: the outputs or errors of its items, in order.

        The result is UNSET while a referenced output of an item has not been fetched.
        """
        outputs: list[Any] = []
        for index in range(len(step.items or [])):
            item = self.steps[item_id(step.node_id, index)]
            if isinstance(item.output, msgspec.UnsetType):
                return item.output
            outputs.append(item.output if item.status == "success" else {"error": item.error})
        return outputs


def described_failure(failed: Failed) -> str:
    """Return the message of a failure with the step that failed."""
    prefix = f"{failed.node_id}: "
    # Workers of earlier versions put the step into the message.
    if failed.node_id is None or failed.error_message.startswith(prefix):
        return failed.error_message
    return prefix + failed.error_message


def awaits_signal(step: StepState) -> bool:
    """Tell whether a step waits for a signal and has not received it."""
    return (
        step.status == "waiting"
        and step.waiting is not None
        and step.waiting.wait == "signal"
        and step.resolution is None
    )


def fold(events: Iterable[Event]) -> ExecutionState:
    """Fold events into the state of their execution.

    Raises:
        IllegalEventError: the events are not a path of the state machine.
    """
    state = ExecutionState()
    for event in events:
        state.apply(event)
    return state


def _name(event: Event) -> str:
    tag = type(event).__struct_config__.tag
    return str(tag)
