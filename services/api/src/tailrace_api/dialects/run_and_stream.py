"""Start a run and stream it in the same response, as data-only blocks ``{"type", "data"}``.

Names and fields are those that existing front ends of this stream expect. The table below maps
events of the log to their counterparts. Events without a counterpart are not shown; the client's
position moves past them. Values are copied without decoding.

The end of a cancelled run is an ``executionError``, because existing pages report success at every
``executionFinished``.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_shared.execution.events import OpenStep


class _Counterpart(NamedTuple):
    """The counterpart of an event in this dialect.

    Attributes:
        fields: by field, the fields of the event to copy from; the first that exists is used, and
            null if none does.
        optional: fields that are omitted instead of null.
    """

    type: str
    fields: Mapping[str, tuple[str, ...]]
    optional: frozenset[str] = frozenset()


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


# The name of a node defaults to its id. Existing pages read either spelling.
_NODE: Final = {
    **_same("node_id", "node_type"),
    "node_name": ("name", "node_id"),
    "nodeName": ("name", "node_id"),
}
_STARTED: Final = _Counterpart(
    "executionStarted",
    {
        **_same("execution_id", "workflow_id", "workflow_name", "version", "status"),
        "flow_id": ("workflow_id",),
        "input_data": ("input",),
    },
)
_BEFORE: Final = _Counterpart(
    "nodeExecutionBefore", {**_NODE, **_same("status", "attempt", "started_at")}
)
_PROGRESS: Final = _Counterpart(
    "nodeExecutionProgress",
    {**_NODE, **_same("percent", "message", "fields", "stage", "progress", "eta_ms")},
    optional=frozenset({"fields", "stage", "eta_ms"}),
)
_WAITING: Final = _Counterpart(
    "nodeExecutionWaiting",
    {**_NODE, **_same("status", "attempt", "reason", "triggers", "until", "form")},
    optional=frozenset({"triggers", "form"}),
)
_AFTER: Final = _Counterpart(
    "nodeExecutionAfter",
    {
        **_NODE,
        **_same("status", "attempt", "started_at", "completed_at", "duration_ms", "output"),
        "data": ("output",),
        **_same("error", "reason"),
    },
    optional=frozenset({"reason"}),
)
_PAUSED: Final = _Counterpart(
    "executionPaused",
    _same("execution_id", "status", "reason", "requested", "waiting"),
    optional=frozenset({"requested", "waiting"}),
)
_RESUMED: Final = _Counterpart("executionResumed", _same("execution_id", "status", "resumed_from"))
_FINISHED: Final = _Counterpart(
    "executionFinished",
    _same("execution_id", "status", "output", "execution_time_ms", "output_omitted"),
    optional=frozenset({"output_omitted"}),
)
_ERROR: Final = _Counterpart(
    "executionError",
    {
        **_same("execution_id", "status", "execution_time_ms", "node_id"),
        "error": ("error_message", "reason"),
    },
)
_COUNTERPARTS: Final[Mapping[str, _Counterpart]] = {
    "execution:queued": _STARTED,
    "execution:paused": _PAUSED,
    "execution:resumed": _RESUMED,
    "step:started": _BEFORE,
    "step:progress": _PROGRESS,
    "step:completed": _AFTER,
    "step:failed": _AFTER,
    "step:skipped": _AFTER,
    "execution:completed": _FINISHED,
    "execution:cancelled": _ERROR,
    "execution:failed": _ERROR,
}


class _Wait(msgspec.Struct):
    wait: str = "time"


class _End(msgspec.Struct):
    open_steps: list[OpenStep] = []


_CLOSING: Final = frozenset({"execution:failed", "execution:cancelled", "execution:finishing"})
_NO_BLOCK: Final[Slots] = (None,)
_NULL: Final = msgspec.Raw(b"null")

_decode_wait = msgspec.json.Decoder(_Wait).decode
_decode_end = msgspec.json.Decoder(_End).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _RunAndStream(Dialect):
    # No greeting: the first block of this stream is executionStarted, which is in the log.
    __slots__ = ()

    name = "run_and_stream"

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        counterpart = _COUNTERPARTS.get(event.type)
        if event.type == "step:waiting" and _decode_wait(event.data).wait == "signal":
            counterpart = _WAITING
        if event.type == "execution:finishing":
            *before, last = _ends_of_open_steps(context, event) or (None,)
            return (None if last is None else last._replace(before=tuple(filter(None, before))),)
        if counterpart is None:
            return _NO_BLOCK
        block = _block(counterpart, context, _decode_fields(event.data))
        return (block._replace(before=_ends_of_open_steps(context, event)),)


def _block(counterpart: _Counterpart, context: Context, stored: Mapping[str, msgspec.Raw]) -> Block:
    # Events of steps do not name the execution; clients of several streams need it.
    data: dict[str, Any] = {"execution_id": context.execution_id}
    for name, sources in counterpart.fields.items():
        value = next((stored[source] for source in sources if source in stored), None)
        if value is not None or name not in counterpart.optional:
            data[name] = _NULL if value is None else value
    if counterpart is _AFTER and data["error"] is not _NULL:
        # Existing pages read the message of an object, and the text of an executionError.
        data["error"] = {"message": data["error"]}
    if counterpart is _ERROR and data["error"] is _NULL:
        data["error"] = data["status"]
    return Block("", _encode({"type": counterpart.type, "data": data}))


def _ends_of_open_steps(context: Context, event: LoggedEvent) -> tuple[Block, ...]:
    """Return the ends of the steps that end with a part of their execution, without an event.

    Without them, pages would show these steps as running for ever.
    """
    if event.type not in _CLOSING:
        return ()
    return tuple(
        _block(
            _AFTER,
            context,
            _decode_fields(
                _encode(
                    {
                        **msgspec.to_builtins(step),
                        "status": "cancelled",
                        "completed_at": event.timestamp,
                        "error": "cancelled",
                    }
                )
            ),
        )
        for step in _decode_end(event.data).open_steps
    )


RUN_AND_STREAM: Final = _RunAndStream()
