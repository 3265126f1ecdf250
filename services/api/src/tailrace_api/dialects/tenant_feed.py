"""Stream the progress of a tenant's executions by stage, for a merchant's page.

Names and fields are those that existing front ends of this stream expect. A purchase order there is
the execution that processes it here. Its id is the one in the execution's input, or by default that
of the execution.

Messages that a client has published are shown as they are, under the name of their ``type``.

An event has two slots, because the end of a stage has two blocks: the completed stage, and a
completion with its findings.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.sse import frame
from tailrace_shared.execution.events import (
    Cancelled,
    Failed,
    Started,
    StepBegun,
    StepError,
    StepProgress,
)
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.redact.masking import MASK
from tailrace_shared.subjects import LogFilter

#: The stage of events that concern the whole execution.
WORKFLOW: Final = "workflow"

_ORDER_KEYS: Final = (
    *("poId", "po_id", "purchaseOrderId", "purchase_order_id"),
    *("poNumber", "po_number"),
)

_NOTHING: Final[Slots] = (None, None)


class _Done(msgspec.Struct):
    """The fields of a step's completion that the feed shows; the output is decoded on demand."""

    node_id: str
    attempt: int
    duration_ms: int
    output: msgspec.Raw = msgspec.Raw(b"null")
    kept_from: str | None = None
    stage: str | None = None


class _Findings(msgspec.Struct):
    """The fields of an output that the feed shows."""

    lineItems: Any = None  # noqa: N815 - the name that existing nodes use
    line_items: Any = None
    confidence: Any = None


_decode_started = msgspec.json.Decoder(Started).decode
_decode_failed = msgspec.json.Decoder(Failed).decode
_decode_cancelled = msgspec.json.Decoder(Cancelled).decode
_decode_begun = msgspec.json.Decoder(StepBegun).decode
_decode_done = msgspec.json.Decoder(_Done).decode
_decode_error = msgspec.json.Decoder(StepError).decode
_decode_progress = msgspec.json.Decoder(StepProgress).decode
_decode_findings = msgspec.json.Decoder(_Findings).decode
_decode_message = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def _execution_started(context: Context, event: LoggedEvent) -> Slots:
    started = _decode_started(event.data)
    return _progress(context, event, progress=0, message="started", eta_ms=started.eta_ms)


def _execution_completed(context: Context, event: LoggedEvent) -> Slots:
    return _progress(context, event, progress=100, message="completed", eta_ms=0)


def _execution_failed(context: Context, event: LoggedEvent) -> Slots:
    failed = _decode_failed(event.data)
    if failed.node_id is not None:
        return _NOTHING  # the step's failure has been shown
    return _block("error", context, event, WORKFLOW, error=failed.error_message), None


def _execution_cancelled(context: Context, event: LoggedEvent) -> Slots:
    reason = _decode_cancelled(event.data).reason or "cancelled"
    return _block("error", context, event, WORKFLOW, error=reason), None


def _step_started(context: Context, event: LoggedEvent) -> Slots:
    begun = _decode_begun(event.data)
    if not _is_stage(begun.stage, begun.node_id):
        return _NOTHING
    again = f" (attempt {begun.attempt})" if begun.attempt > 1 else ""
    return _stage(context, event, begun, "started", f"{begun.stage} started{again}"), None


def _step_completed(context: Context, event: LoggedEvent) -> Slots:
    done = _decode_done(event.data)
    if done.kept_from is not None or not _is_stage(done.stage, done.node_id):
        return _NOTHING
    completion = _block(
        "completion",
        context,
        event,
        done.stage,
        **_findings(done.output),
        nodeId=done.node_id,
        duration_ms=done.duration_ms,
    )
    return _stage(context, event, done, "completed", f"{done.stage} completed"), completion


def _step_failed(context: Context, event: LoggedEvent) -> Slots:
    failed = _decode_error(event.data)
    stage = failed.stage or failed.node_id
    error = failed.error
    return _block("error", context, event, stage, error=error, nodeId=failed.node_id), None


def _step_progress(context: Context, event: LoggedEvent) -> Slots:
    report = _decode_progress(event.data)
    return _progress(
        context,
        event,
        report.stage,
        progress=report.percent if report.progress is None else report.progress,
        message=report.message or report.stage or report.node_id,
        eta_ms=report.eta_ms,
        nodeId=report.node_id,
        extra=report.fields,
    )


def _message(context: Context, event: LoggedEvent) -> Slots:
    del context
    message = _decode_message(event.data)
    stamp = round(parse_timestamp(event.timestamp) * 1000)
    return Block(str(message["type"]), _encode({**message, "timestamp": stamp})), None


_RENDERERS: Final[Mapping[str, Callable[[Context, LoggedEvent], Slots]]] = {
    "execution:started": _execution_started,
    "execution:completed": _execution_completed,
    "execution:failed": _execution_failed,
    "execution:cancelled": _execution_cancelled,
    "step:started": _step_started,
    "step:completed": _step_completed,
    "step:failed": _step_failed,
    "step:progress": _step_progress,
    "feed:message": _message,
}


def _is_stage(stage: str | None, step_id: str) -> bool:
    """Return whether a step begins and ends a stage.

    The items of a map carry its stage, but the stage begins and ends with the map.
    """
    return stage is not None and split_item_id(step_id)[1] is None


def _progress(
    context: Context,
    event: LoggedEvent,
    stage: str | None = None,
    extra: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Slots:
    return _block("progress", context, event, stage, extra, **fields), None


def _stage(
    context: Context, event: LoggedEvent, step: StepBegun | _Done, status: str, message: str
) -> Block:
    return _block(
        "stage",
        context,
        event,
        step.stage,
        status=status,
        message=message,
        nodeId=step.node_id,
        attempt=step.attempt,
    )


def _findings(output: msgspec.Raw) -> dict[str, Any]:
    """Return the number of lines and the confidence in an output, if it has them."""
    if not bytes(output).startswith(b"{"):
        return {}
    findings = _decode_findings(output)
    lines = findings.line_items if findings.lineItems is None else findings.lineItems
    found = {
        "lineItems": len(lines) if isinstance(lines, list) else lines,
        "confidence": findings.confidence,
    }
    return {name: value for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _block(
    name: str,
    context: Context,
    event: LoggedEvent,
    stage: str | None,
    extra: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Block:
    # Fields in the order of the front ends' types, which makes raw streams readable.
    data = {
        "type": name,
        **({} if stage is None else {"stage": stage}),
        "poId": _order_of(context),
        "workflowId": context.workflow_id,
        **fields,
        "executionId": context.execution_id,
        "timestamp": round(parse_timestamp(event.timestamp) * 1000),
    }
    # A node's own fields, which cannot replace those above.
    more = {key: value for key, value in (extra or {}).items() if key not in data}
    return Block(name, _encode({**data, **more}))


def _order_of(context: Context) -> str:
    fields = context.input if isinstance(context.input, dict) else {}
    for key in _ORDER_KEYS:
        value = fields.get(key)
        # A masked id is the same for all orders.
        if (isinstance(value, str) and value not in {"", MASK}) or _is_number(value):
            return str(value)
    return context.execution_id


class _TenantFeed(Dialect):
    __slots__ = ()

    name = "tenant_feed"
    topic_slot = 2
    needs = "context"
    is_regular = True

    @property
    def slots(self) -> int:
        return 2

    def greet(self, part: LogFilter, milliseconds: int) -> Block:
        connected = {"type": "connected", "merchantId": part.tenant, "timestamp": milliseconds}
        return Block("", _encode(connected))

    def heartbeat(self, milliseconds: int, event_id: str) -> bytes:
        del event_id
        return frame.comment(f"heartbeat {milliseconds}")

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        renderer = _RENDERERS.get(event.type)
        return _NOTHING if renderer is None else renderer(context, event)


TENANT_FEED: Final = _TenantFeed()
