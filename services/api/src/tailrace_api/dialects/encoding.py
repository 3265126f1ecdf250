"""Render the events of commits in a dialect, and frame them for the wire."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
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

# Memory of a commit beside its bytes, and of each frame.
_COMMIT_BYTES: Final = 250
_FRAME_BYTES: Final = 80

_log = structlog.get_logger("tailrace.api.dialects")

Show = Callable[[Context, LoggedEvent, msgspec.Raw], Slots]


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit in a dialect, ready for the wire.

    Attributes:
        sequence: its stream sequence.
        chunk: the frames of all slots of all events, with chunk framing; empty if none is shown.
        indexes: the indexes of the slots that have a frame.
        ends: for each of them, the offset at which its frame ends.
        last_index: the index of the last slot; -1 if the commit has no events.
        previous: the sequence of the execution's preceding commit; 0 if it does not matter.
    """

    sequence: int
    chunk: bytes
    indexes: tuple[int, ...]
    ends: tuple[int, ...]
    last_index: int
    is_last: bool
    is_urgent: bool = True
    previous: int = 0

    @classmethod
    def of(
        cls,
        sequence: int,
        frames: Mapping[int, bytes],
        last_index: int,
        *,
        is_last: bool,
        is_urgent: bool = True,
    ) -> Self:
        """Return a commit from the frames of its slots by index, in ascending order."""
        ends = tuple(accumulate(map(len, frames.values())))
        wire = chunk(b"".join(frames.values()))
        return cls(sequence, wire, tuple(frames), ends, last_index, is_last, is_urgent)

    @classmethod
    def hidden(cls, sequence: int) -> Self:
        """Return a commit of which nothing is shown; positions can move past it."""
        return cls(sequence, b"", (), (), 0, is_last=False)

    def not_final(self) -> Self:
        """Return the same commit for a stream that does not end with it."""
        return replace(self, is_last=False)

    @property
    def is_blank(self) -> bool:
        """Whether it counts as a single event that is not shown."""
        return not self.ends and self.last_index == 0

    @property
    def size(self) -> int:
        return _COMMIT_BYTES + len(self.chunk) + _FRAME_BYTES * len(self.ends)

    @property
    def frames(self) -> bytes:
        return b"".join(bodies(self.chunk))

    def by_index(self, index: int = 0) -> list[tuple[int, bytes]]:
        """Return the index and the frame of each slot from ``index`` on that has one."""
        frames, start = self.frames, 0
        found = []
        for each, end in zip(self.indexes, self.ends, strict=True):
            if each >= index:
                found.append((each, frames[start:end]))
            start = end
        return found

    def since(self, index: int) -> bytes:
        """Return the frames from a slot on, as one chunk."""
        first = self._first(index)
        return self.chunk if first == 0 else chunk(self.frames[self.ends[first - 1] :])

    def shown(self, index: int = 0) -> int:
        """Return the number of slots from ``index`` on that have a frame."""
        return len(self.indexes) - self._first(index)

    def last_shown(self, index: int = 0) -> int | None:
        """Return the index of the last slot from ``index`` on that has a frame."""
        return self.indexes[-1] if self.indexes and self.indexes[-1] >= index else None

    def _first(self, index: int) -> int:
        return bisect_left(self.indexes, index) if index else 0


_decode_event = msgspec.json.Decoder(LoggedEvent).decode

_Decoded = tuple[LoggedEvent | None, msgspec.Raw]


# Topics that show the same commit encode it one right after the other.
@lru_cache(maxsize=4)
def _decoded(payload: bytes, is_newer: bool, status: str) -> tuple[_Decoded, ...]:
    is_masked = SENSITIVE_KEY in payload
    return tuple(_decode(stored, is_newer, status, is_masked) for stored in split_commit(payload))


def _decode(stored: msgspec.Raw, is_newer: bool, status: str, is_masked: bool) -> _Decoded:
    try:
        slice_ = mask_event(stored) if is_masked else stored
        event = _decode_event(slice_)
    except ILLEGIBLE:
        return None, stored
    event.is_newer, event.commit_status = is_newer, status
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


def encode_commit(  # noqa: PLR0913 - all that a commit consists of
    dialect: Dialect,
    epoch: str,
    context: Context,
    sequence: int,
    payload: bytes,
    show: Show | None = None,
    *,
    is_newer: bool = False,
    status: str = "",
) -> EncodedCommit:
    """Encode a commit.

    Args:
        status: the header that summarizes the execution after it; empty if absent.

    Raises:
        ILLEGIBLE: the payload is not a commit.
    """
    frames: dict[int, bytes] = {}
    is_last, number = False, 0
    show, first = show or dialect.show, dialect.first_index + dialect.first_slot
    for number, (event, stored) in enumerate(_decoded(payload, is_newer, status), 1):
        if event is None:
            continue
        is_last = is_last or event.type in TERMINAL_TYPES
        slots = render(dialect, show, context, event, stored)
        index = first + (number - 1) * dialect.stride
        for place, block in enumerate(slots, index):
            if block is not None:
                event_id = str(StreamPosition(epoch, sequence, place))
                frames[place] = with_last_id((*block.before, block), event_id)
    last_index, is_urgent = dialect.last_index(number), dialect.is_urgent(context)
    return EncodedCommit.of(sequence, frames, last_index, is_last=is_last, is_urgent=is_urgent)


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


def refused(reason: str, retry_ms: int | None, detail: str = "") -> Block:
    """Return the block that tells a client that its stream cannot be served.

    Args:
        reason: a word for programs, for example ``tenant_full``.
        retry_ms: when to come back, in milliseconds; None for never.
        detail: a sentence for people: what is wrong, or which setting is the limit.
    """
    data: dict[str, Any] = {"reason": reason, "retry_ms": retry_ms}
    return Block(
        "stream:refused", msgspec.json.encode(data | ({"detail": detail} if detail else {}))
    )


def reset(reason: ResetReason, restart: StreamPosition | None) -> Block:
    """Return the block that tells a client that its id cannot be served.

    Args:
        restart: the event with which the stream begins instead; None if there is none.
    """
    data: dict[str, Any] = {"reason": reason, "from": restart and str(restart)}
    return Block("stream:reset", msgspec.json.encode(data))
