"""The events of an execution's log, and the commits that carry them.

An event on the wire is ``{"type", "data", "timestamp"}``: what a browser receives is the stored
slice itself. A commit is one message in the log, a JSON array of one or more events that become
true together.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

MAX_COMMIT_BYTES: Final = 512 * 1024
MAX_VALUE_BYTES: Final = 256 * 1024
"""Largest input or output that an event carries."""


class Queued(msgspec.Struct):
    """Data of ``execution:queued``, always the first event."""

    execution_id: str
    workflow_id: str
    workflow_name: str
    version: int
    input: Any = None
    status: Literal["queued"] = "queued"


class Started(msgspec.Struct):
    """Data of ``execution:started``: a worker drives the execution."""

    execution_id: str
    status: str
    started_at: str


class Completed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:completed``."""

    execution_id: str
    status: str
    execution_time_ms: int
    output: Any = None
    # True where the output is the leaves' and too large to be repeated here.
    output_omitted: bool = False


class Failed(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:failed``."""

    execution_id: str
    status: str
    execution_time_ms: int
    error_message: str
    node_id: str | None = None


class Cancelled(msgspec.Struct, omit_defaults=True):
    """Data of ``execution:cancelled``."""

    execution_id: str
    status: str
    execution_time_ms: int
    reason: str = ""


class Command(msgspec.Struct, omit_defaults=True):
    """Data of ``command:requested``: accepted by the API, to be applied by a worker."""

    execution_id: str
    command: Literal["cancel"]
    command_id: str
    reason: str = ""


class StepBegun(msgspec.Struct, omit_defaults=True):
    """Data of ``step:started``."""

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    name: str = ""
    stage: str | None = None


class StepDone(msgspec.Struct):
    """Data of ``step:completed``."""

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    completed_at: str
    duration_ms: int
    output: Any


class StepError(msgspec.Struct):
    """Data of ``step:failed``: the step has no attempts left."""

    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    completed_at: str
    duration_ms: int
    error: str


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


class StepWait(msgspec.Struct):
    """Data of ``step:waiting``: nothing runs until a time has come."""

    node_id: str
    node_type: str
    status: str
    until: str


class StepProgress(msgspec.Struct, omit_defaults=True):
    """Data of ``step:progress``, as the node reports it."""

    node_id: str
    node_type: str
    percent: float
    message: str = ""
    fields: dict[str, Any] = {}


class StepLog(msgspec.Struct, omit_defaults=True):
    """Data of ``step:log``: a line that a node wrote."""

    node_id: str
    node_type: str
    level: str
    message: str
    fields: dict[str, Any] = {}


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


class CommandRequested(_Event, tag="command:requested", frozen=True):
    """The API has accepted a command."""

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


class StepSkipped(_Event, tag="step:skipped", frozen=True):
    """A step will not run."""

    data: StepSkip
    timestamp: str


class StepWaiting(_Event, tag="step:waiting", frozen=True):
    """A started step waits for a time."""

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
    | CommandRequested
    | StepStarted
    | StepCompleted
    | StepFailed
    | StepRetrying
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
    | StepSkipped
    | StepWaiting
    | StepProgressed
    | StepLogged
)

TERMINAL: Final = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled)
TERMINAL_TYPES: Final = frozenset(
    {"execution:completed", "execution:failed", "execution:cancelled"}
)


class EventSlice(msgspec.Struct):
    """The part of an event that tells what it is, for those who pass it on undecoded."""

    type: str


decode_commit = msgspec.json.Decoder(list[Event]).decode
split_commit = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_slice = msgspec.json.Decoder(EventSlice).decode
_encoder = msgspec.json.Encoder()


def encode_commits(events: Sequence[Event]) -> Iterator[bytes]:
    """Encode events as one commit, or as several where they are too large for one.

    A commit stays under 512 KiB; no single event is larger, because inputs, outputs, messages
    and errors are limited where they enter.
    """
    payload = _encoder.encode(events)
    if len(payload) <= MAX_COMMIT_BYTES:
        yield payload
        return
    yield from _joined(_encoder.encode(event) for event in events)


def _joined(slices: Iterable[bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for piece in slices:
        if part and size + len(piece) + 1 > MAX_COMMIT_BYTES - 2:
            yield b"[" + b",".join(part) + b"]"
            part, size = [], 0
        part.append(piece)
        size += len(piece) + 1
    if part:
        yield b"[" + b",".join(part) + b"]"


def format_timestamp(seconds: float) -> str:
    """Write seconds since the epoch as events do: ``2024-01-15T10:30:00.000Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_timestamp(text: str) -> float:
    """Read an RFC 3339 timestamp; returns seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
