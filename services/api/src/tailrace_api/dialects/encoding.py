"""Render the events of commits in a dialect, and frame them for the wire."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import lt
from typing import Any, Final, Literal, Self

import msgspec
import structlog

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, Dialect, LoggedEvent, Slots
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import bodies, chunk
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.position import StreamPosition
from tailrace_shared.redact.masking import SENSITIVE_KEY, mask_event

ResetReason = Literal["expired", "unknown", "recreated", "restored"]

NOTHING: Final = b""
"""The frame of an empty slot."""

_BLANK: Final = (0,)
# Memory of a commit beside its bytes, per slot, and per slot with a frame.
_COMMIT_BYTES: Final = 250
_SLOT_BYTES: Final = 8
_FRAME_BYTES: Final = 32

_log = structlog.get_logger("tailrace.api.dialects")

Show = Callable[[Context, LoggedEvent, msgspec.Raw], Slots]


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit in a dialect, ready for the wire.

    Attributes:
        sequence: its stream sequence.
        chunk: the frames of all slots of all events, with chunk framing; empty if none is shown.
        ends: for each slot, the offset at which its frame ends.
    """

    sequence: int
    chunk: bytes
    ends: tuple[int, ...]
    is_last: bool
    is_urgent: bool = True

    @classmethod
    def of(
        cls, sequence: int, frames: Sequence[bytes], *, is_last: bool, is_urgent: bool = True
    ) -> Self:
        """Return a commit from the frames of its slots; empty slots have empty frames."""
        ends, end = [], 0
        for each in frames:
            # Most slots are empty; their offsets share one int object.
            end = end + len(each) if each else end
            ends.append(end)
        return cls(sequence, chunk(b"".join(frames)), tuple(ends), is_last, is_urgent)

    def not_final(self) -> Self:
        """Return the same commit for a stream that does not end with it."""
        return replace(self, is_last=False)

    @property
    def is_blank(self) -> bool:
        """Whether it counts as a single event that is not shown."""
        return self.ends == _BLANK

    @property
    def size(self) -> int:
        ends = _SLOT_BYTES * len(self.ends) + _FRAME_BYTES * len(set(self.ends))
        return _COMMIT_BYTES + len(self.chunk) + ends

    @property
    def frames(self) -> bytes:
        return b"".join(bodies(self.chunk))

    def since(self, index: int) -> bytes:
        """Return the frames from a slot on, as one chunk."""
        return self.chunk if index == 0 else chunk(self.frames[self._start(index) :])

    def shown(self, index: int = 0) -> int:
        """Return the number of slots from ``index`` on that have a frame."""
        starts = (self._start(index), *self.ends[index:])
        return sum(map(lt, starts, starts[1:]))

    def last_shown(self, index: int = 0) -> int | None:
        """Return the index of the last slot from ``index`` on that has a frame."""
        backwards = range(len(self.ends) - 1, index - 1, -1)
        return next((i for i in backwards if self.ends[i] > self._start(i)), None)

    def _start(self, index: int) -> int:
        # In a tenant's stream, a client may send an id with an index that no event has.
        return self.ends[min(index, len(self.ends)) - 1] if index and self.ends else 0


_decode_event = msgspec.json.Decoder(LoggedEvent).decode

_Decoded = tuple[LoggedEvent | None, msgspec.Raw]


# Topics that show the same commit encode it one right after the other.
@lru_cache(maxsize=4)
def _decoded(payload: bytes, is_newer: bool) -> tuple[_Decoded, ...]:
    is_masked = SENSITIVE_KEY in payload
    return tuple(_decode(stored, is_newer, is_masked) for stored in split_commit(payload))


def _decode(stored: msgspec.Raw, is_newer: bool, is_masked: bool) -> _Decoded:
    try:
        slice_ = mask_event(stored) if is_masked else stored
        event = _decode_event(slice_)
    except ILLEGIBLE:
        return None, stored
    event.is_newer = is_newer
    return event, slice_


def render(
    dialect: Dialect, show: Show, context: Context, event: LoggedEvent, stored: msgspec.Raw
) -> Slots:
    """Return what is shown of an event; empty slots if the dialect cannot interpret it.

    Args:
        show: the method that shows events: the dialect's, or its state's.
        stored: the event as it is stored. Sensitive values are masked in both.
    """
    if event.is_newer and not dialect.is_verbatim:
        return (None,) * dialect.slots
    try:
        return show(context, event, stored)
    except ILLEGIBLE as error:
        _log.warning(
            "event is illegible",
            dialect=dialect.name,
            execution=context.execution_id,
            type=event.type,
            error=str(error),
        )
        return (None,) * dialect.slots


def encode_commit(
    dialect: Dialect,
    epoch: str,
    context: Context,
    sequence: int,
    payload: bytes,
    show: Show | None = None,
    *,
    is_newer: bool = False,
) -> EncodedCommit:
    """Encode a commit.

    Raises:
        ILLEGIBLE: the payload is not a commit.
    """
    frames: list[bytes] = []
    is_last = False
    show, nothing = show or dialect.show, (None,) * dialect.slots
    for event, stored in _decoded(payload, is_newer):
        is_last = is_last or (event is not None and event.type in TERMINAL_TYPES)
        for block in render(dialect, show, context, event, stored) if event else nothing:
            if block is None:
                frames.append(NOTHING)
            else:
                event_id = str(StreamPosition(epoch, sequence, len(frames)))
                frames.append(with_last_id((*block.before, block), event_id))
    return EncodedCommit.of(sequence, frames, is_last=is_last, is_urgent=dialect.is_urgent(context))


def without_id(blocks: Sequence[Block]) -> bytes:
    """Return the frames of blocks that are not in the log, and so have no ids."""
    return b"".join(frame.event(block.data, name=block.name) for block in blocks)


def with_last_id(blocks: Sequence[Block], event_id: str) -> bytes:
    """Return the frames of blocks that are not in the log; the last one has an id.

    A client that is disconnected before the last one gets all of them again.
    """
    if not blocks:
        return b""
    *others, last = blocks
    return without_id(others) + frame.event(last.data, name=last.name, event_id=event_id)


def reset(reason: ResetReason, restart: StreamPosition | None) -> Block:
    """Return the block that tells a client that its id cannot be served.

    Args:
        restart: the event with which the stream begins instead; None if there is none.
    """
    data: dict[str, Any] = {"reason": reason, "from": restart and str(restart)}
    return Block("stream:reset", msgspec.json.encode(data))
