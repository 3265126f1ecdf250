"""The wire format of commits: each is one message, a JSON array of events."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from tailrace_shared.execution.events import Event

MAX_COMMIT_BYTES: Final = 512 * 1024
EVENTS_VERSION: Final = 1
"""What commits are written as. It grows when an event changes in a way that a reader must know."""


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
