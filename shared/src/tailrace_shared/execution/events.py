"""The events of an execution's log, and the commits that carry them.

An event on the wire is ``{"type", "data", "timestamp"}``: what a browser receives is the stored
slice itself. A commit is one message in the log, a JSON array of one or more events that become
true together.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

MAX_VALUE_BYTES: Final = 256 * 1024
"""Largest input or output that an event carries; larger outputs are carried by reference."""


class Parent(msgspec.Struct, frozen=True):
    """The step that an execution is a child run of."""

    execution_id: str
    node_id: str


class OutputRef(msgspec.Struct, frozen=True):
    """Where an output is kept that is too large for an event.

    Attributes:
        object: its name in the object store ``outputs``.
        bytes: its size as JSON.
    """

    object: str
    bytes: int


class Origin(msgspec.Struct, frozen=True):
    """Where an execution comes from, if not from a plain request.

    Attributes:
        parent: the step whose child run it is.
        depth: how many ancestors that makes.
        rerun_of: the execution that it runs again.
        from_node: where it begins to; None for the start.
        sensitive: places in the input that nobody is shown, whatever the definition marks.
    """

    parent: Parent | None = None
    depth: int = 0
    rerun_of: str | None = None
    from_node: str | None = None
    sensitive: tuple[str, ...] = ()


class Queued(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:queued``, always the first event; see also :class:`Origin`.

    Attributes:
        sensitive: the places in the input that nobody is shown, as JSON Pointers.
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


class Started(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:started``: a worker drives the execution.

    Attributes:
        eta_ms: how long it will take, by what earlier runs took; None where nothing is known.
    """

    execution_id: str
    status: str
    started_at: str
    eta_ms: int | None = None


class Completed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:completed``.

    Attributes:
        output_omitted: whether the output is the leaves' and too large to be repeated here.
        sensitive: the places in the output that nobody is shown, as JSON Pointers.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    output: Any = None
    output_omitted: bool = False
    sensitive: list[str] = []


class Failed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:failed``.

    Attributes:
        waiting: the steps that waited for a signal, and wait no longer.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    error_message: str
    node_id: str | None = None
    waiting: list[str] = []


class Cancelled(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:cancelled``.

    Attributes:
        waiting: the steps that waited for a signal, and wait no longer.
    """

    execution_id: str
    status: str
    execution_time_ms: int
    reason: str = ""
    waiting: list[str] = []


class Paused(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:paused``.

    Attributes:
        reason: ``requested``, or why the first waiting step waits, for example ``approval``.
        requested: whether somebody asked for it; otherwise nothing can go on without a signal.
        waiting: the steps that wait for a signal.
    """

    execution_id: str
    status: str
    reason: str
    requested: bool = False
    waiting: list[str] = []


class Resumed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:resumed``.

    Attributes:
        resumed_from: the step whose signal came; None where a request or a time did it.
    """

    execution_id: str
    status: str
    resumed_from: str | None = None


class Command(msgspec.Struct, omit_defaults=True):
    """Data of ``command:requested``: accepted, to be applied by a worker.

    ``resolve`` is the signal that a waiting step has waited for: a decision of somebody, or an
    event that a trigger brought.

    Attributes:
        reason: why, for a ``cancel`` or a ``pause``.
        actor: who asked; empty where nobody is known.
        node_id: the step of a ``resolve``.
        decision: what was decided, ``approved`` or ``rejected``.
        data: what was entered with it.
        event: what the trigger brought.
        procedure: the trigger.
        sensitive: the places in ``data`` and ``event`` that nobody is shown, as JSON Pointers
            that begin with ``/data`` or ``/event``.
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
        remote: whether an actor attends to the attempt, not the worker that drives the execution.
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
        output_ref: where the output is, if it is too large for the event.
        output_omitted: whether the output is the list of a map's items, too large to be repeated.
        kept_from: the execution whose output a rerun has kept.
        stage: the node's name on the tenant's feed.
        sensitive: the places in the output that nobody is shown, as JSON Pointers.
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


class StepExpansion(msgspec.Struct, omit_defaults=True):
    """Data of ``step:expanded``: the items that a map has found.

    Attributes:
        sensitive: the places in the items that nobody is shown, as JSON Pointers.
    """

    node_id: str
    node_type: str
    status: str
    items: list[Any]
    sensitive: list[str] = []


class StepError(msgspec.Struct, omit_defaults=True):
    """Data of ``step:failed``: the step has no attempts left.

    Attributes:
        stage: the node's name on the tenant's feed.
        waited: whether it waited for a signal until then.
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


class StepAgain(msgspec.Struct):
    """Data of ``step:retrying``: this attempt ended, another begins at ``retry_at``.

    ``cause`` is ``error`` (the node failed), ``crash`` (its worker is gone) or ``handover`` (its
    worker stopped in good order); only errors count against the node's retry policy.
    """

    node_id: str
    node_type: str
    status: str
    attempt: int
    cause: Literal["error", "crash", "handover"]
    error: str
    retry_at: str


class StepSkip(msgspec.Struct):
    """Data of ``step:skipped``: by the node's own ``when``, or because of what it needs."""

    node_id: str
    node_type: str
    status: str
    reason: Literal["when", "needs"]


WaitKind = Literal["time", "signal", "child", "actor"]
OnTimeout = Literal["cancel", "fail", "continue"]
OnReject = Literal["continue", "fail"]


class StepWait(msgspec.Struct, omit_defaults=True):
    """Data of ``step:waiting``: nothing of the step runs until something has come.

    Attributes:
        until: the time that it waits for, or at which it waits no longer; None for ever.
        wait: for a time, a signal, the end of a child run, or an actor that is free.
        reason: why it waits, in the words of the definition.
        triggers: procedures that may bring the signal.
        match: CEL; the event that a trigger brings must satisfy it.
        lookback: how old an event may be that came before the step waited, in seconds.
        form: JSON Schema of the data that is asked for.
        on_timeout: what happens at ``until``.
        on_reject: what a rejection does: it is data, or it fails the step.
        child_execution_id: the child run.
        child_workflow_id: the child run's workflow.
        child_input: the child run's input.
        sensitive: the places that nobody is shown, as JSON Pointers: in ``child_input``, or in
            what a signal brings, where ``*`` is every item of a list.
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


class StepProgress(msgspec.Struct, omit_defaults=True):
    """Data of ``step:progress``, as the node reports it.

    Attributes:
        percent: how far the step is.
        stage: the node's name on the tenant's feed.
        progress: how far the whole execution is, in percent.
        eta_ms: how long the execution still takes; None where nothing is known.
        sensitive: the places in ``fields`` that nobody is shown, as JSON Pointers.
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


class StepLog(msgspec.Struct, omit_defaults=True):
    """Data of ``step:log``: a line that a node wrote.

    Attributes:
        sensitive: the places in ``fields`` that nobody is shown, as JSON Pointers.
    """

    node_id: str
    node_type: str
    level: str
    message: str
    fields: dict[str, Any] = {}
    sensitive: list[str] = []


class _Event(msgspec.Struct, frozen=True, tag_field="type"):
    """An event: what happened, and when (RFC 3339, UTC, milliseconds)."""


class ExecutionQueued(_Event, tag="execution:queued", frozen=True):
    """The execution exists."""

    data: Queued
    timestamp: str


class ExecutionStarted(_Event, tag="execution:started", frozen=True):
    """A worker has begun to drive the execution."""

    data: Started
    timestamp: str


class ExecutionCompleted(_Event, tag="execution:completed", frozen=True):
    """Every step has settled and none failed."""

    data: Completed
    timestamp: str


class ExecutionFailed(_Event, tag="execution:failed", frozen=True):
    """Every step has settled and one failed, or the execution cannot go on."""

    data: Failed
    timestamp: str


class ExecutionCancelled(_Event, tag="execution:cancelled", frozen=True):
    """Somebody cancelled the execution."""

    data: Cancelled
    timestamp: str


class ExecutionPaused(_Event, tag="execution:paused", frozen=True):
    """Nothing runs any more: it was asked for, or nothing can without a signal."""

    data: Paused
    timestamp: str


class ExecutionResumed(_Event, tag="execution:resumed", frozen=True):
    """A paused execution goes on."""

    data: Resumed
    timestamp: str


class CommandRequested(_Event, tag="command:requested", frozen=True):
    """A command has been accepted."""

    data: Command
    timestamp: str


class StepStarted(_Event, tag="step:started", frozen=True):
    """An attempt of a step begins."""

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
    """An attempt ended without success and another will begin."""

    data: StepAgain
    timestamp: str


class StepExpanded(_Event, tag="step:expanded", frozen=True):
    """A map has found its items; each of them is a step of its own."""

    data: StepExpansion
    timestamp: str


class StepSkipped(_Event, tag="step:skipped", frozen=True):
    """A step will not run."""

    data: StepSkip
    timestamp: str


class StepWaiting(_Event, tag="step:waiting", frozen=True):
    """A step waits; see :class:`StepWait` for what."""

    data: StepWait
    timestamp: str


class StepProgressed(_Event, tag="step:progress", frozen=True):
    """A running step reports how far it is."""

    data: StepProgress
    timestamp: str


class StepLogged(_Event, tag="step:log", frozen=True):
    """A running step wrote a line."""

    data: StepLog
    timestamp: str


Event = (
    ExecutionQueued
    | ExecutionStarted
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
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
    """Return how many bytes of outputs events refer to that are not in them."""
    refs = (event.data.output_ref for event in events if isinstance(event, StepCompleted))
    return sum(ref.bytes for ref in refs if ref is not None)
