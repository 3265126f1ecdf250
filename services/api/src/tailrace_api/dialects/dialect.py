"""What a dialect is, and what all dialects share.

A dialect turns each event of a commit into the bytes of an SSE block, or into nothing. It is pure
and knows no client: the hub calls it once for each commit and hands the same bytes to everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tailrace_api.sse import frame
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
        greet: the block with which each connection begins, given the execution's id.
        show: the block of one event, given the execution's id, the event's id, the event as far
            as it is open, and the stored slice.
    """

    name: str
    greet: Callable[[str], bytes]
    show: Callable[[str, str, LoggedEvent, msgspec.Raw], bytes]


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit in the words of a dialect.

    Attributes:
        sequence: its place in the log.
        frames: one for each event; empty where the dialect shows nothing.
        is_last: whether an event of it ends the execution.
        joined: all frames, for the many who want them all.
    """

    sequence: int
    frames: tuple[bytes, ...]
    is_last: bool
    joined: bytes

    def since(self, index: int) -> bytes:
        """Return the frames from an index on, in one piece."""
        return self.joined if index == 0 else b"".join(self.frames[index:])

    def last_shown(self, index: int) -> int | None:
        """Return the index of the last event from ``index`` on that has a frame."""
        return next((i for i in range(len(self.frames) - 1, index - 1, -1) if self.frames[i]), None)


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
    return EncodedCommit(sequence, tuple(frames), is_last, b"".join(frames))


def reset(reason: ResetReason, restart: StreamPosition | None) -> bytes:
    """Return the block that tells a client that its id cannot be served.

    Args:
        reason: why.
        restart: the first event that comes instead; None if there is none.
    """
    data: dict[str, Any] = {"reason": reason, "from": restart and str(restart)}
    return frame.event(msgspec.json.encode(data), name="stream:reset")
