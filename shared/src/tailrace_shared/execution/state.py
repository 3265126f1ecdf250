"""The state of an execution: what its events fold to.

One table says which event may follow in which status, for steps and for executions; the fold
is that table and a little bookkeeping. The worker folds to recover, the API to answer, so what
both believe is the log and nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

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
    ExecutionPaused,
    ExecutionQueued,
    ExecutionResumed,
    ExecutionStarted,
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

ExecutionStatus = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal[
    "pending", "running", "waiting", "retrying", "success", "error", "skipped", "cancelled"
]

TERMINAL_STATUSES: Final = frozenset({"completed", "failed", "cancelled"})
SETTLED: Final = frozenset({"success", "error", "skipped", "cancelled"})

# What an event makes of a step in a given status. What is not in the table is illegal.
_STEP_TRANSITIONS: Final[Mapping[tuple[StepStatus, type], StepStatus]] = {
    ("pending", StepStarted): "running",
    ("pending", StepSkipped): "skipped",
    # A node whose `when` cannot be evaluated fails without having run.
    ("pending", StepFailed): "error",
    # A rerun keeps what succeeded in the execution that it runs again.
    ("pending", StepCompleted): "success",
    # A step that an actor attends to begins when the actor does; until then it waits for one.
    ("pending", StepWaiting): "waiting",
    ("running", StepProgressed): "running",
    ("running", StepLogged): "running",
    ("running", StepExpanded): "running",
    ("running", StepWaiting): "waiting",
    ("running", StepCompleted): "success",
    ("running", StepFailed): "error",
    ("running", StepRetrying): "retrying",
    ("waiting", StepStarted): "running",
    ("waiting", StepCompleted): "success",
    ("waiting", StepFailed): "error",
    ("waiting", StepRetrying): "retrying",
    ("retrying", StepStarted): "running",
    ("retrying", StepWaiting): "waiting",
}

_EXECUTION_TRANSITIONS: Final[Mapping[tuple[ExecutionStatus, type], ExecutionStatus]] = {
    ("queued", ExecutionStarted): "running",
    # A definition that cannot be found fails the execution before it has started.
    ("queued", ExecutionFailed): "failed",
    ("queued", ExecutionCancelled): "cancelled",
    ("queued", CommandRequested): "queued",
    ("running", CommandRequested): "running",
    ("running", ExecutionPaused): "paused",
    ("running", ExecutionCompleted): "completed",
    ("running", ExecutionFailed): "failed",
    ("running", ExecutionCancelled): "cancelled",
    ("paused", CommandRequested): "paused",
    # What waited for a signal may be held by a request as well.
    ("paused", ExecutionPaused): "paused",
    ("paused", ExecutionResumed): "running",
    ("paused", ExecutionCancelled): "cancelled",
}


class IllegalEventError(ServiceError):
    """An event that the state machine does not allow: the log is not one of ours."""


class StepState(msgspec.Struct):
    """What is known of one step: of a node, or of one item of a map.

    Attributes:
        begun_at: when its first attempt began, or began to wait for an actor.
        due: when its timer comes, in seconds since the epoch.
        output: UNSET while it is kept elsewhere (``output_ref``) and has not been fetched.
        is_remote: whether an actor attends to the attempt.
        waiting: what it waits for, while it waits.
        waiting_since: the time of the event that said so, while it waits for a signal.
        resolution: the signal that has come and is not applied yet.
        items: of a map, what it does its work for.
        output_omitted: whether the output is to be gathered from the items of the map.
        kept_from: the execution whose output a rerun has kept.
        stage: what the node is called on the tenant's feed.
        sensitive: the places in the output that nobody is shown.
        items_sensitive: the places in the items that nobody is shown.
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
    sensitive: list[str] = []
    items_sensitive: list[str] = []

    @property
    def runs_locally(self) -> bool:
        """Whether the worker that drives the execution runs an attempt for this step."""
        return self.status == "running" and not self.is_remote and self.items is None

    @property
    def waits_for_signal(self) -> bool:
        """Whether it waits for a signal, or has one that is not applied yet."""
        return (
            self.status == "waiting" and self.waiting is not None and self.waiting.wait == "signal"
        )


class ExecutionState(msgspec.Struct):
    """What is known of one execution. Steps that no event has named are pending."""

    execution_id: str = ""
    workflow_id: str = ""
    workflow_name: str = ""
    version: int = 0
    status: ExecutionStatus = "queued"
    input: Any = None
    sensitive: list[str] = []
    """The places in the input that nobody is shown."""
    output: Any = None
    output_omitted: bool = False
    output_sensitive: list[str] = []
    """The places in the output that nobody is shown."""
    error: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    cancel: CommandRequested | None = None
    is_held: bool = False
    """Whether somebody asked for a pause."""
    is_paused_by_request: bool = False
    """Whether the status is ``paused`` because of that."""
    parent: Parent | None = None
    depth: int = 0
    rerun_of: str | None = None
    from_node: str | None = None
    commands: set[str] = set()
    """Ids of the commands that have been accepted."""
    steps: dict[str, StepState] = {}
    signal_waits: int = 0
    """How many steps wait for a signal."""
    waits_digest: int = 0
    """Which; see :mod:`tailrace_shared.execution.commit_status`."""
    has_sensitive_values: bool = False
    """Whether something that came after the input has places that nobody is shown."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen any more."""
        return self.status in TERMINAL_STATUSES

    @property
    def commit_status(self) -> CommitStatus:
        """How it stands."""
        return CommitStatus(self.status, self.signal_waits, self.waits_digest)

    def waiting(self, most: int) -> list[str]:
        """Return the steps that wait for a signal, or some of them if they are more than that."""
        if not self.signal_waits:
            return []
        return [id_ for id_, step in self.steps.items() if step.waits_for_signal][:most]

    def step(self, node_id: str) -> StepState:
        """Return the state of a step."""
        state = self.steps.get(node_id)
        if state is None:
            state = self.steps[node_id] = StepState(node_id)
        return state

    def apply(self, event: Event) -> None:
        """Take one event into account.

        Raises:
            IllegalEventError: it cannot follow what came before.
        """
        if isinstance(event, StepEvent):
            self._apply_to_step(event)
        else:
            self._apply_to_execution(event)

    def _apply_to_execution(self, event: Event) -> None:
        if isinstance(event, ExecutionQueued):
            self._create(event)
            return
        after = _EXECUTION_TRANSITIONS.get((self.status, type(event)))
        if after is None or self.created_at is None:
            raise IllegalEventError(f"{_name(event)} in an execution that is {self.status}")
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
        self.rerun_of = event.data.rerun_of
        self.from_node = event.data.from_node
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
                    raise IllegalEventError(f"a signal for {event.data.node_id}, which awaits none")
                step.resolution = event.data
                self.has_sensitive_values = self.has_sensitive_values or bool(event.data.sensitive)

    def _finish(self, event: ExecutionCompleted | ExecutionFailed | ExecutionCancelled) -> None:
        self.finished_at = event.timestamp
        self.signal_waits = self.waits_digest = 0
        self.duration_ms = event.data.execution_time_ms
        match event:
            case ExecutionCompleted():
                self.output = event.data.output
                self.output_omitted = event.data.output_omitted
                self.output_sensitive = event.data.sensitive
            case ExecutionFailed():
                self.error = event.data.error_message
            case ExecutionCancelled():
                self.error = event.data.reason or None
        for step in self.steps.values():
            if step.status not in SETTLED:
                step.status, step.waiting_since = "cancelled", ""
                step.completed_at = event.timestamp
                if step.started_at is not None:
                    elapsed = parse_timestamp(event.timestamp) - parse_timestamp(step.started_at)
                    step.duration_ms = max(0, round(elapsed * 1000))

    def _apply_to_step(self, event: StepEvent) -> None:
        node_id = event.data.node_id
        step = self.steps.get(node_id) or StepState(node_id)
        after = _STEP_TRANSITIONS.get((step.status, type(event)))
        # What a rerun keeps is there before it starts.
        is_kept = isinstance(event, StepCompleted) and event.data.kept_from is not None
        expected = "queued" if is_kept else "running"
        if after is None or self.status != expected:
            raise IllegalEventError(
                f"{_name(event)} for {node_id}, which is {step.status}, "
                f"in an execution that is {self.status}"
            )
        self.steps[node_id] = step
        self._count_wait(step, -1)
        step.status = after
        step.node_type = event.data.node_type
        if isinstance(event, StepCompleted | StepFailed | StepRetrying):
            self._end_attempt(step, event)
        else:
            self._go_on(step, event)
            self._count_wait(step, 1, event.timestamp)

    def _count_wait(self, step: StepState, by: int, since: str = "") -> None:
        if step.waits_for_signal:
            self.signal_waits += by
            self.waits_digest ^= digest_of_wait(step.node_id, since or step.waiting_since)
            step.waiting_since = since

    def _go_on(
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
                step.stage = event.data.stage
                step.error = step.due = step.percent = step.waiting = None
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
                # One that fails or is kept without having begun has said it nowhere else.
                step.stage = event.data.stage
                step.completed_at = event.data.completed_at
                step.duration_ms = event.data.duration_ms
                step.error = event.data.error
            case StepRetrying():
                step.failures += event.data.cause == "error"
                step.crashes += event.data.cause == "crash"
                step.error = event.data.error
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
            step.output = self.gathered(step)
        else:
            step.output = msgspec.UNSET if done.output_ref else done.output

    def gathered(self, step: StepState) -> list[Any] | msgspec.UnsetType:
        """Return the output of a map: those of its items in order, or their errors.

        UNSET while an item's output is kept elsewhere and has not been fetched.
        """
        outputs: list[Any] = []
        for index in range(len(step.items or [])):
            item = self.steps[item_id(step.node_id, index)]
            if isinstance(item.output, msgspec.UnsetType):
                return item.output
            outputs.append(item.output if item.status == "success" else {"error": item.error})
        return outputs


def awaits_signal(step: StepState) -> bool:
    """Tell whether a signal may be given to a step: it waits for one and has none yet."""
    return (
        step.status == "waiting"
        and step.waiting is not None
        and step.waiting.wait == "signal"
        and step.resolution is None
    )


def fold(events: Iterable[Event]) -> ExecutionState:
    """Return the state that ``events`` lead to.

    Raises:
        IllegalEventError: they are not a legal path of the state machine.
    """
    state = ExecutionState()
    for event in events:
        state.apply(event)
    return state


def _name(event: Event) -> str:
    tag = type(event).__struct_config__.tag
    return str(tag)
