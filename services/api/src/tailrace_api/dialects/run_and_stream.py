"""Run and watch in one response (seed 002): data-only blocks ``{"type", "data"}``.

Six events of the log have a counterpart there. The others have none; a client's position moves
over them.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from tailrace_api.dialects.dialect import NOTHING, Dialect, LoggedEvent
from tailrace_api.sse import frame
from tailrace_shared.execution.events import StepBegun, StepSkip

_NULL: Final = msgspec.Raw(b"null")


class _Queued(msgspec.Struct):
    execution_id: str
    workflow_id: str
    workflow_name: str
    version: int
    # Input and output pass through unopened.
    input: msgspec.Raw = _NULL
    status: str = "queued"


class _StepDone(msgspec.Struct):
    node_id: str
    node_type: str
    status: str
    attempt: int
    started_at: str
    completed_at: str
    duration_ms: int
    output: msgspec.Raw = _NULL
    error: str | None = None


class _Ended(msgspec.Struct):
    execution_id: str
    status: str
    execution_time_ms: int
    output: msgspec.Raw = _NULL
    output_omitted: bool = False
    reason: str = ""
    error_message: str = ""
    node_id: str | None = None


class _Block(msgspec.Struct):
    type: Literal[
        "executionStarted",
        "nodeExecutionBefore",
        "nodeExecutionAfter",
        "executionFinished",
        "executionError",
    ]
    data: dict[str, Any]


def _started(_execution: str, event: LoggedEvent) -> _Block:
    queued = msgspec.json.decode(event.data, type=_Queued)
    data = {
        "execution_id": queued.execution_id,
        "workflow_id": queued.workflow_id,
        "flow_id": queued.workflow_id,
        "workflow_name": queued.workflow_name,
        "version": queued.version,
        "status": queued.status,
        "input_data": queued.input,
    }
    return _Block("executionStarted", data)


def _before(execution: str, event: LoggedEvent) -> _Block:
    step = msgspec.json.decode(event.data, type=StepBegun)
    data = {
        "execution_id": execution,
        "node_id": step.node_id,
        "node_type": step.node_type,
        "node_name": step.name or step.node_id,
        "status": step.status,
        "attempt": step.attempt,
        "started_at": step.started_at,
    }
    return _Block("nodeExecutionBefore", data)


def _after(execution: str, event: LoggedEvent) -> _Block:
    step = msgspec.json.decode(event.data, type=_StepDone)
    data = {
        "execution_id": execution,
        "node_id": step.node_id,
        "node_type": step.node_type,
        "status": step.status,
        "attempt": step.attempt,
        "started_at": step.started_at,
        "completed_at": step.completed_at,
        "duration_ms": step.duration_ms,
        "output": step.output,
        "error": step.error,
    }
    return _Block("nodeExecutionAfter", data)


def _skipped(execution: str, event: LoggedEvent) -> _Block:
    step = msgspec.json.decode(event.data, type=StepSkip)
    data = {
        "execution_id": execution,
        "node_id": step.node_id,
        "node_type": step.node_type,
        "status": step.status,
        "reason": step.reason,
        "duration_ms": 0,
        "output": None,
        "error": None,
    }
    return _Block("nodeExecutionAfter", data)


def _finished(_execution: str, event: LoggedEvent) -> _Block:
    ended = msgspec.json.decode(event.data, type=_Ended)
    data = {
        "execution_id": ended.execution_id,
        "status": ended.status,
        "execution_time_ms": ended.execution_time_ms,
        "output": ended.output,
    }
    if ended.output_omitted:
        data["output_omitted"] = True
    if ended.reason:
        data["reason"] = ended.reason
    return _Block("executionFinished", data)


def _failed(_execution: str, event: LoggedEvent) -> _Block:
    ended = msgspec.json.decode(event.data, type=_Ended)
    data = {
        "execution_id": ended.execution_id,
        "status": ended.status,
        "execution_time_ms": ended.execution_time_ms,
        "error": ended.error_message,
        "node_id": ended.node_id,
    }
    return _Block("executionError", data)


_BLOCKS: Final[dict[str, Callable[[str, LoggedEvent], _Block]]] = {
    "execution:queued": _started,
    "step:started": _before,
    "step:completed": _after,
    "step:failed": _after,
    "step:skipped": _skipped,
    "execution:completed": _finished,
    "execution:cancelled": _finished,
    "execution:failed": _failed,
}


def _greet(_execution: str) -> bytes:
    # The first block of this stream is executionStarted, which is in the log.
    return NOTHING


def _show(execution: str, event_id: str, event: LoggedEvent, _stored: msgspec.Raw) -> bytes:
    block = _BLOCKS.get(event.type)
    if block is None:
        return NOTHING
    return frame.event(msgspec.json.encode(block(execution, event)), event_id=event_id)


RUN_AND_STREAM: Final = Dialect("run_and_stream", _greet, _show)
