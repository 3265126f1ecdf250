"""What a dialect is, and what all dialects share.

A dialect turns each event of a commit into the bytes of an SSE block, or into nothing. It is pure
and knows no client: the hub calls it once for each commit and hands the same bytes to everybody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import lt
from typing import Any, Final, Literal, Self

import msgspec

from tailrace_api.sse import frame
from tailrace_api.sse.chunk import bodies, chunk
from tailrace_shared.execution.events import TERMINAL_TYPES, split_commit
from tailrace_shared.position import StreamPosition

ResetReason = Literal["expired", "unknown", "recreated"]

NOTHING: Final = b""
"""The frame of an event that a dialect does not show."""


class LoggedEvent(msgspec.Struct):
    """An event as far as a dialect opens it: its data stays the stored bytes.

    Attributes:
        type: for example ``step:started``.
        data: JSON.
        timestamp: when it happened.
    """

    type: str
    data: msgspec.Raw
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of stream speaks.

    Attributes:
        name: for logs and keys.
        greet: the block with which each connection begins, given the id of the execution, or
            that of the tenant where a stream shows all of a tenant's.
        show: the block of one event, given its execution's id, the event's id, the event as far
            as it is open, and the stored slice.
    """

    name: str
    greet: Callable[[str], bytes]
    show: Callable[[str, str, LoggedEvent, msgspec.Raw], bytes]


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit in the words of a dialect, ready for the wire.

    Attributes:
        sequence: its place in the log.
        chunk: the frames of all events, with chunk framing; empty if none is shown.
        ends: for each event, where its frame ends among the frames.
        is_last: whether an event of it ends the execution.
    """

    sequence: int
    chunk: bytes
    ends: tuple[int, ...]
    is_last: bool

    @classmethod
    def of(cls, sequence: int, frames: Sequence[bytes], *, is_last: bool) -> Self:
        """Return a commit of which each event has a frame, perhaps an empty one."""
        ends = tuple(accumulate(map(len, frames)))
        return cls(sequence, chunk(b"".join(frames)), ends, is_last)

    @property
    def joined(self) -> bytes:
        """All frames, without framing."""
        return b"".join(bodies(self.chunk))

    def since(self, index: int) -> bytes:
        """Return the frames from an index on, as one chunk."""
        return self.chunk if index == 0 else chunk(self.joined[self._start(index) :])

    def shown(self, index: int = 0) -> int:
        """Return how many events from ``index`` on have a frame."""
        starts = (self._start(index), *self.ends[index:])
        return sum(map(lt, starts, starts[1:]))

    def last_shown(self, index: int = 0) -> int | None:
        """Return the index of the last event from ``index`` on that has a frame."""
        backwards = range(len(self.ends) - 1, index - 1, -1)
        return next((i for i in backwards if self.ends[i] > self._start(i)), None)

    def _start(self, index: int) -> int:
        return self.ends[index - 1] if index else 0


_decode_event = msgspec.json.Decoder(LoggedEvent).decode


def encode_commit(
    dialect: Dialect, epoch: str, execution: str, sequence: int, payload: bytes
) -> EncodedCommit:
    """Encode a commit.

    Raises:
        msgspec.DecodeError: the payload is not a commit.
    """
    frames = []
    is_last = False
    for index, slice_ in enumerate(split_commit(payload)):
        event = _decode_event(slice_)
        is_last = is_last or event.type in TERMINAL_TYPES
        event_id = str(StreamPosition(epoch, sequence, index))
        frames.append(dialect.show(execution, event_id, event, slice_))
    return EncodedCommit.of(sequence, frames, is_last=is_last)


def reset(reason: ResetReason, restart: StreamPosition | None) -> bytes:
    """Return the block that tells a client that its id cannot be served.

    Args:
        reason: why.
        restart: the first event that comes instead; None if there is none.
    """
    data: dict[str, Any] = {"reason": reason, "from": restart and str(restart)}
    return frame.event(msgspec.json.encode(data), name="stream:reset")
