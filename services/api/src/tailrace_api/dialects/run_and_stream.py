"""Start a run and stream it in the same response, as data-only blocks ``{"type", "data"}``.

Names and fields are those that existing front ends of this stream expect. The table below maps
events of the log to their counterparts. Events without a counterpart are not shown; the client's
position moves past them. Values are copied without decoding.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots


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


_STARTED: Final = _Counterpart(
    "executionStarted",
    {
        **_same("execution_id", "workflow_id", "workflow_name", "version", "status"),
        "flow_id": ("workflow_id",),
        "input_data": ("input",),
    },
)
_BEFORE: Final = _Counterpart(
    "nodeExecutionBefore",
    {
        **_same("node_id", "node_type", "status", "attempt", "started_at"),
        # The name of a node defaults to its id.
        "node_name": ("name", "node_id"),
    },
)
_AFTER: Final = _Counterpart(
    "nodeExecutionAfter",
    _same(
        *("node_id", "node_type", "status", "attempt", "started_at", "completed_at"),
        *("duration_ms", "output", "error", "reason"),
    ),
    optional=frozenset({"reason"}),
)
_FINISHED: Final = _Counterpart(
    "executionFinished",
    _same("execution_id", "status", "output", "execution_time_ms", "output_omitted", "reason"),
    optional=frozenset({"output_omitted", "reason"}),
)
_ERROR: Final = _Counterpart(
    "executionError",
    {
        **_same("execution_id", "status", "execution_time_ms", "node_id"),
        "error": ("error_message",),
    },
)
_COUNTERPARTS: Final[Mapping[str, _Counterpart]] = {
    "execution:queued": _STARTED,
    "step:started": _BEFORE,
    "step:completed": _AFTER,
    "step:failed": _AFTER,
    "step:skipped": _AFTER,
    "execution:completed": _FINISHED,
    "execution:cancelled": _FINISHED,
    "execution:failed": _ERROR,
}

_NO_BLOCK: Final[Slots] = (None,)
_NULL: Final = msgspec.Raw(b"null")

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _RunAndStream(Dialect):
    # No greeting: the first block of this stream is executionStarted, which is in the log.
    __slots__ = ()

    name = "run_and_stream"

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        counterpart = _COUNTERPARTS.get(event.type)
        return _NO_BLOCK if counterpart is None else (_block(counterpart, context, event),)


def _block(counterpart: _Counterpart, context: Context, event: LoggedEvent) -> Block:
    stored_fields = _decode_fields(event.data)
    # Events of steps do not name the execution; clients of several streams need it.
    data: dict[str, msgspec.Raw | str] = {"execution_id": context.execution_id}
    for name, sources in counterpart.fields.items():
        value = next((stored_fields[source] for source in sources if source in stored_fields), None)
        if value is not None or name not in counterpart.optional:
            data[name] = _NULL if value is None else value
    return Block("", _encode({"type": counterpart.type, "data": data}))


RUN_AND_STREAM: Final = _RunAndStream()
