"""Run and watch in one response: data-only blocks ``{"type", "data"}``.

The names and fields are those that existing front ends of this stream listen for. Some events of
the log have a counterpart there, by the table below. The others have none; a client's position
moves over them. Values pass through unopened.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots


class _Counterpart(NamedTuple):
    """What an event of the log is called, and which fields it has.

    Attributes:
        type: the name in this dialect.
        fields: for each field, the fields of the event of which the first that is there gives
            the value; null if none is.
        optional: fields that are left out rather than null.
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
        # A node without a name is called by its id.
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
    # The first block of this stream is executionStarted, which is in the log: there is no greeting.
    __slots__ = ()

    name = "run_and_stream"

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        counterpart = _COUNTERPARTS.get(event.type)
        return _NO_BLOCK if counterpart is None else (_told(counterpart, context, event),)


def _told(counterpart: _Counterpart, context: Context, event: LoggedEvent) -> Block:
    given = _decode_fields(event.data)
    # Events of steps do not name the execution; clients of several streams want to know.
    data: dict[str, msgspec.Raw | str] = {"execution_id": context.execution_id}
    for name, sources in counterpart.fields.items():
        value = next((given[source] for source in sources if source in given), None)
        if value is not None or name not in counterpart.optional:
            data[name] = _NULL if value is None else value
    return Block("", _encode({"type": counterpart.type, "data": data}))


RUN_AND_STREAM: Final = _RunAndStream()
