"""Encode and decode commits. A commit is one message: a JSON array of events."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from tailrace_shared.execution.events import Event
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState

MAX_COMMIT_BYTES: Final = 512 * 1024
EVENTS_VERSION: Final = 2
"""Newest version of events that can be read. It grows with every change readers must know of."""
_FIRST_VERSION: Final = 1
_SECOND_VERSION: Final = 2
"""Has groups of nodes that follow the main part, and reruns of parts of a map, of what has failed
or with another version or input, which earlier releases do not know."""


class EventSlice(msgspec.Struct):
    """Only the type of an event, for readers that forward its bytes."""

    type: str


decode_commit = msgspec.json.Decoder(list[Event]).decode
split_commit = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_slice = msgspec.json.Decoder(EventSlice).decode
_encoder = msgspec.json.Encoder()


def events_version(state: ExecutionState) -> int:
    """Return the version that readers of an execution in this state must know.

    It is as low as possible, so that earlier releases read as much as they can.
    """
    from_item = state.from_node is not None and split_item_id(state.from_node)[1] is not None
    is_new_rerun = state.reruns_failed or state.is_revised or from_item
    return _SECOND_VERSION if is_new_rerun or state.finishing is not None else _FIRST_VERSION


def encode_commits(events: Sequence[Event]) -> Iterator[bytes]:
    """Encode events as one commit, or as several if they exceed 512 KiB.

    No single event is larger, because inputs, outputs, messages and errors are limited at their
    entry.
    """
    payload = _encoder.encode(events)
    if len(payload) <= MAX_COMMIT_BYTES:
        yield payload
        return
    yield from _pack(_encoder.encode(event) for event in events)


def _pack(slices: Iterable[bytes]) -> Iterator[bytes]:
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
