"""The events of an execution's log.

An event is stored as ``{"type", "data", "timestamp"}``, and clients receive the stored bytes. A
commit is one message of the log: a JSON array of events that take effect together (see
``commits``). In every event, ``sensitive`` lists JSON Pointers to values that are masked when the
event is shown.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tailrace_shared.workflow.definition import Overlap

MAX_VALUE_BYTES: Final = 256 * 1024
"""Maximum size of an input or output in an event; larger outputs are stored by reference."""


class Parent(msgspec.Struct, frozen=True):
    """The step that an execution is a child run of."""

    execution_id: str
    node_id: str


class OutputRef(msgspec.Struct, frozen=True):
    """Reference to an output that is too large for an event.

    Attributes:
        object: its name in the stream OUTPUTS.
        bytes: its size as JSON.
    """

    object: str
    bytes: int


class Origin(msgspec.Struct, frozen=True):
    """The origin of an execution that a plain request did not start.

    Attributes:
        parent: the step whose child run it is.
        depth: the number of ancestors.
        root: the ancestor that is no child run; None for such a run itself.
        rerun_of: the execution that it repeats.
        from_node: the first step that is run again: a node, or an item of a map.
        failed: whether the steps that have not succeeded are run again.
        revised: whether the version or the input differs from that of the repeated execution.
        sensitive: pointers into the input, in addition to what the definition marks.
        scheduled_at: the time of the firing that it belongs to; None without a schedule.
        schedule: the schedule that started it.
        overlap: what happens while another run of the same schedule is active.
        tags: tags in addition to those of the definition.
    """

    parent: Parent | None = None
    depth: int = 0
    rerun_of: str | None = None
    from_node: str | None = None
    sensitive: tuple[str, ...] = ()
    root: str | None = None
    scheduled_at: str | None = None
    schedule: str | None = None
    overlap: Overlap | None = None
    tags: tuple[str, ...] = ()
    failed: bool = False
    revised: bool = False


class Queued(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:queued``, the first event; see also :class:`Origin`.

    Attributes:
        sensitive: pointers into the input.
        tags: the tags of the definition and those of the run.
    """

    execution_id: str
    workflow_id: str
    workflow_name: str
    version: int
    input: Any
    status: Literal["queued"]
    parent: Parent | None = None
    depth: int = 0
    rerun_of: str | None = None
    from_node: str | None = None
    sensitive: list[str] = []
    root: str | None = None
    scheduled_at: str | None = None
    schedule: str | None = None
    overlap: Overlap | None = None
    tags: list[str] = []
    failed: bool = False
    revised: bool = False


class Started(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:started``: a worker has begun to drive the execution.

    Attributes:
        eta_ms: estimated duration from earlier runs, in milliseconds; None without an estimate.
    """

    execution_id: str
    status: str
    started_at: str
    eta_ms: int | None = None


class OpenStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that had begun and not ended when its execution ended."""

    node_id: str
    node_type: str
    attempt: int
    name: str = ""
    started_at: str | None = None


class OpenWait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wait for a signal that goes on while another one of the execution ends.

    Attributes:
        since: the timestamp of the event that started it.
        until: when it times out; None for never.
        variables: the place of its variables in the list that comes with it; -1 without any.
    """

    node_id: str
    since: str
    reason: str = ""
    triggers: tuple[str, ...] = ()
    until: str | None = None
    variables: int = -1


class OpenWaits(NamedTuple):
    """Waits for a signal that go on, and their variables. Most waits have the same."""

    waits: list[OpenWait]
    variables: list[dict[str, Any]]


class Completed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:completed``.

    Attributes:
        generated_document_id: the id of the generated document, if the output or a step's output in
            it names one and nothing in it is sensitive.
        output_omitted: whether the output consists of the leaves' outputs and is too large to be
            repeated here.
        sensitive: pointers into the output.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    output: Any = None
    output_omitted: bool = False
    sensitive: list[str] = []
    generated_document_id: str | None = None


class Failed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:failed``.

    Attributes:
        node_id: the first step that failed; None if the execution could not continue otherwise.
        waiting: steps that were waiting for a signal.
        open_steps: steps that had not ended, up to a limit.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    error_message: str
    node_id: str | None = None
    waiting: list[str] = []
    open_steps: list[OpenStep] = []


class Cancelled(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:cancelled``.

    Attributes:
        waiting: steps that were waiting for a signal.
        open_steps: steps that had not ended, up to a limit.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    reason: str = ""
    waiting: list[str] = []
    open_steps: list[OpenStep] = []


class Finishing(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:finishing``: a group of nodes begins that follows the main part.

    All steps that have not ended are cancelled.

    Attributes:
        group: the group that begins.
        outcome: the status of the run if the group changes nothing.
        error_message: why the run has failed.
        node_id: the first step that failed; None if the run has not failed, or for another reason.
        waiting: steps that were waiting for a signal.
        open_steps: steps that had not ended, up to a limit.
    """

    execution_id: str
    status: str
    group: Literal["on_failure", "finally"]
    outcome: Literal["completed", "failed", "cancelled"]
    error_message: str = ""
    node_id: str | None = None
    waiting: list[str] = []
    open_steps: list[OpenStep] = []


class Paused(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:paused``.

    Attributes:
        reason: ``requested``, or the reason of the first waiting step, for example ``approval``.
        requested: whether a client requested the pause; otherwise all remaining steps need a
            signal.
        waiting: steps that wait for a signal.
    """

    execution_id: str
    status: str
    reason: str
    requested: bool = False
    waiting: list[str] = []


class Resumed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:resumed``.

    Attributes:
        resumed_from: the step that received its signal; None after a request or a timeout.
    """

    execution_id: str
    status: str
    resumed_from: str | None = None


class Command(msgspec.Struct, omit_defaults=True):
    """Data of ``command:requested``: an accepted command that a worker will apply.

    ``resolve`` delivers the signal of a waiting step: a person's decision, or a trigger's event.

    Attributes:
        reason: the reason of a ``cancel`` or a ``pause``.
        actor: the user who sent the command; empty if unknown.
        node_id: the step of a ``resolve``.
        decision: ``approved`` or ``rejected``.
        data: data that was entered with the decision.
        event: the data of the trigger.
        procedure: the procedure of the trigger.
        sensitive: pointers that begin with ``/data`` or ``/event``.
    """

    execution_id: str
    command: Literal["cancel", "pause", "resume", "resolve"]
    command_id: str
    reason: str = ""
    actor: str = ""
    node_id: str | None = None
    decision: str | None = None
    data: Any = None
    event: Any = None
    procedure: str | None = None
    sensitive: list[str] = []


class StepBegun(msgspec.Struct, omit_defaults=True):
    """Data of ``step:started``.

    Attributes:
        remote: whether an actor runs the attempt, not the worker that drives the execution.
    """

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    name: str = ""
    stage: str | None = None
    remote: bool = False


class StepDone(msgspec.Struct, omit_defaults=True):
    """Data of ``step:completed``.

    Attributes:
        output_ref: reference to the output if it is too large for the event.
        output_omitted: whether the output is the list of a map's outputs, too large to be repeated.
        kept_from: the execution whose output a rerun reuses.
        stage: the node's name on the tenant feed.
        sensitive: pointers into the output.
        name: the node's display name.
        still_waiting: if the step waited for a signal, others that still do, up to a limit.
        variables: what they show of the execution.
    """

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    completed_at: str
    duration_ms: int
    output: Any
    output_ref: OutputRef | None = None
    output_omitted: bool = False
    kept_from: str | None = None
    stage: str | None = None
    sensitive: list[str] = []
    name: str = ""
    still_waiting: list[OpenWait] = []
    variables: list[dict[str, Any]] = []


class StepExpansion(msgspec.Struct, omit_defaults=True):
    """Data of ``step:expanded``: the items of a map.

    Attributes:
        sensitive: pointers into the items.
    """

    node_id: str
    node_type: str
    status: str
    items: list[Any]
    sensitive: list[str] = []


class StepError(msgspec.Struct, omit_defaults=True):
    """Data of ``step:failed``: the step has no attempts left.

    Attributes:
        stage: the node's name on the tenant feed.
        waited: whether it was waiting for a signal.
        error_detail: the traceback of the error, or the response that a server sent with it.
        name: the node's display name.
        still_waiting: if the step waited for a signal, others that still do, up to a limit.
        variables: what they show of the execution.
    """

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    completed_at: str
    duration_ms: int
    error: str
    stage: str | None = None
    waited: bool = False
    error_detail: str = ""
    name: str = ""
    still_waiting: list[OpenWait] = []
    variables: list[dict[str, Any]] = []


class StepAgain(msgspec.Struct, omit_defaults=True):
    """Data of ``step:retrying``: this attempt ended, and another starts at ``retry_at``.

    ``cause`` is ``error`` (the node failed), ``crash`` (its worker was lost) or ``handover`` (its
    worker shut down). Only errors count against the node's retry policy.
    """

    node_id: str
    node_type: str
    status: str
    attempt: int
    cause: Literal["error", "crash", "handover"]
    error: str
    retry_at: str
    error_detail: str = ""
    name: str = ""


class StepSkip(msgspec.Struct, omit_defaults=True):
    """Data of ``step:skipped``: because of the node's ``when``, or of the outcome of its needs."""

    node_id: str
    node_type: str
    status: str
    reason: Literal["when", "needs"]
    name: str = ""


WaitKind = Literal["time", "signal", "child", "actor"]
OnTimeout = Literal["cancel", "fail", "continue"]
OnReject = Literal["continue", "fail"]


class StepWait(msgspec.Struct, omit_defaults=True):
    """Data of ``step:waiting``: the step holds no worker until the wait ends.

    Attributes:
        until: the time that it waits for, or its timeout; None without a limit.
        wait: the kind of wait: a time, a signal, the end of a child run, or a free actor.
        reason: the reason from the definition.
        triggers: procedures that can deliver the signal.
        match: CEL expression that the event of a trigger must satisfy.
        lookback: maximum age of a trigger that came before the step waited, in seconds.
        form: JSON Schema of the requested data.
        on_timeout: the effect of the timeout.
        on_reject: the effect of a rejection: it becomes the output, or it fails the step.
        child_execution_id: the child run.
        child_workflow_id: the workflow of the child run.
        child_input: the input of the child run.
        sensitive: pointers into ``child_input``, or into the data of the signal, where ``*``
            stands for every item of a list.
        variables: what a wait for a signal shows of the execution beside its input: outputs of
            steps by node id, with sensitive values masked.
    """

    node_id: str
    node_type: str
    status: str
    until: str | None = None
    wait: WaitKind = "time"
    attempt: int = 0
    reason: str = ""
    triggers: list[str] = []
    match: str | None = None
    lookback: float = 0.0
    form: Any = None
    on_timeout: OnTimeout = "fail"
    on_reject: OnReject = "continue"
    child_execution_id: str | None = None
    child_workflow_id: str | None = None
    child_input: Any = None
    sensitive: list[str] = []
    name: str = ""
    variables: dict[str, Any] = {}


class StepProgress(msgspec.Struct, omit_defaults=True):
    """Data of ``step:progress``, as reported by the node.

    Attributes:
        percent: progress of the step.
        stage: the node's name on the tenant feed.
        progress: progress of the execution, in percent.
        eta_ms: estimated remaining time of the execution, in milliseconds; None without an
            estimate.
        sensitive: pointers into ``fields``.
    """

    node_id: str
    node_type: str
    percent: float
    message: str = ""
    fields: dict[str, Any] = {}
    stage: str | None = None
    progress: float | None = None
    eta_ms: int | None = None
    sensitive: list[str] = []
    name: str = ""


class StepLog(msgspec.Struct, omit_defaults=True):
    """Data of ``step:log``: a log line of a node.

    Attributes:
        sensitive: pointers into ``fields``.
    """

    node_id: str
    node_type: str
    level: str
    message: str
    fields: dict[str, Any] = {}
    sensitive: list[str] = []


class _Event(msgspec.Struct, frozen=True, tag_field="type"):
    """An event with its timestamp (RFC 3339, UTC, milliseconds)."""


class ExecutionQueued(_Event, tag="execution:queued", frozen=True):
    """The execution was created."""

    data: Queued
    timestamp: str


class ExecutionStarted(_Event, tag="execution:started", frozen=True):
    """A worker has begun to drive the execution."""

    data: Started
    timestamp: str


class ExecutionCompleted(_Event, tag="execution:completed", frozen=True):
    """All steps have settled, and none failed."""

    data: Completed
    timestamp: str


class ExecutionFailed(_Event, tag="execution:failed", frozen=True):
    """All steps have settled and one failed, or the execution cannot continue."""

    data: Failed
    timestamp: str


class ExecutionCancelled(_Event, tag="execution:cancelled", frozen=True):
    """The execution was cancelled."""

    data: Cancelled
    timestamp: str


class ExecutionFinishing(_Event, tag="execution:finishing", frozen=True):
    """A group of nodes that follows the main part begins: ``on_failure`` or ``finally``."""

    data: Finishing
    timestamp: str


class ExecutionPaused(_Event, tag="execution:paused", frozen=True):
    """No step is running: a client requested a pause, or all remaining steps need a signal."""

    data: Paused
    timestamp: str


class ExecutionResumed(_Event, tag="execution:resumed", frozen=True):
    """A paused execution continues."""

    data: Resumed
    timestamp: str


class CommandRequested(_Event, tag="command:requested", frozen=True):
    """A command was accepted."""

    data: Command
    timestamp: str


class StepStarted(_Event, tag="step:started", frozen=True):
    """An attempt of a step started."""

    data: StepBegun
    timestamp: str


class StepCompleted(_Event, tag="step:completed", frozen=True):
    """A step succeeded."""

    data: StepDone
    timestamp: str


class StepFailed(_Event, tag="step:failed", frozen=True):
    """A step failed for good."""

    data: StepError
    timestamp: str


class StepRetrying(_Event, tag="step:retrying", frozen=True):
    """An attempt ended without success, and another one will start."""

    data: StepAgain
    timestamp: str


class StepExpanded(_Event, tag="step:expanded", frozen=True):
    """A map evaluated its items; each of them is a step of its own."""

    data: StepExpansion
    timestamp: str


class StepSkipped(_Event, tag="step:skipped", frozen=True):
    """A step will not run."""

    data: StepSkip
    timestamp: str


class StepWaiting(_Event, tag="step:waiting", frozen=True):
    """A step waits for a time, a signal, a child run or an actor."""

    data: StepWait
    timestamp: str


class StepProgressed(_Event, tag="step:progress", frozen=True):
    """A running step reported its progress."""

    data: StepProgress
    timestamp: str


class StepLogged(_Event, tag="step:log", frozen=True):
    """A running step wrote a log line."""

    data: StepLog
    timestamp: str


Event = (
    ExecutionQueued
    | ExecutionStarted
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
    | ExecutionFinishing
    | ExecutionPaused
    | ExecutionResumed
    | CommandRequested
    | StepStarted
    | StepCompleted
    | StepFailed
    | StepRetrying
    | StepExpanded
    | StepSkipped
    | StepWaiting
    | StepProgressed
    | StepLogged
)
StepEvent = (
    StepStarted
    | StepCompleted
    | StepFailed
    | StepRetrying
    | StepExpanded
    | StepSkipped
    | StepWaiting
    | StepProgressed
    | StepLogged
)

TERMINAL: Final = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled)
TERMINAL_TYPES: Final = frozenset(
    {"execution:completed", "execution:failed", "execution:cancelled"}
)


def referenced_output_bytes(events: Iterable[Event]) -> int:
    """Return the total size of outputs that the events carry by reference, in bytes."""
    refs = (event.data.output_ref for event in events if isinstance(event, StepCompleted))
    return sum(ref.bytes for ref in refs if ref is not None)
