"""What a dialect is, and what all dialects share.

A dialect says what each event of a log looks like to the clients of one kind of stream. It is pure
and knows no client: the hub calls it once for each commit and hands the same bytes to everybody.

A dialect is a frozen, hashable object, because it is part of the key under which the hub shares
its work: streams whose dialects are equal share everything. One without parameters is made once;
one with parameters (which pipelines? which topics?) is a frozen dataclass.

**Slots.** An event becomes a fixed number of slots, the dialect's ``slots``, each a block or None.
The index of an SSE id is ``index of the event * slots + slot``, so every replica numbers alike,
whatever it has seen of the log. Streams of one execution have one slot.

**Contexts.** Most events do not say whose they are. A dialect says in ``needs`` what it must know
of the execution beside its id: nothing, its workflow's id, or all that the first event says.
Streams of a tenant meet executions in their middle; the hub finds out before it shows anything of
them.

**States.** A dialect whose streams begin with a snapshot has a state (``wants`` says what it is
made from, ``begin`` makes it). The hub keeps it at the newest commit of the topic and gives it
every event there is. `State.opening` is what a stream without a last event id begins with; the
first block after it is of the first commit that the state has not taken. Where what is shown of an
event depends on those before it (``is_cumulative``), only the state shows events, and it can be
rewound to where a client was (`Cumulative`). What is in no log, that a workflow exists, it is told
before a stream opens (`AwaitsWorkflows`).

**Versions.** A commit of a newer version of Tailrace than this one may mean anything. It is passed
over, unless the dialect interprets nothing of an event but its type (``is_verbatim``).

**Illegible events.** Somebody else may write to the log. Of an event that a dialect cannot read
nothing is shown; what comes with it and after it is (`tell`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import lt
from typing import Any, ClassVar, Final, Literal, Protocol, Self, runtime_checkable

import msgspec
import structlog

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import bodies, chunk
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.position import StreamPosition
from tailrace_shared.redact.masking import SENSITIVE_KEY, mask_event
from tailrace_shared.subjects import LogFilter

ResetReason = Literal["expired", "unknown", "recreated"]
Needs = Literal["nothing", "workflow", "context"]

Slots = tuple[Block | None, ...]
"""What is shown of one event."""

NOTHING: Final = b""
"""The frame of a slot in which nothing is shown."""

ILLEGIBLE: Final = (ValueError, RecursionError)
"""What is raised by who reads what is no event: no JSON, no UTF-8, no time, nested too deep."""

_log = structlog.get_logger("tailrace.api.dialects")


class LoggedEvent(msgspec.Struct):
    """An event as far as a dialect opens it: its data stays the stored bytes.

    Attributes:
        type: for example ``step:started``.
        data: JSON.
        timestamp: when it happened.
        is_newer: whether a newer version of Tailrace wrote it; its commit says so.
    """

    type: str
    data: msgspec.Raw
    timestamp: str = ""
    is_newer: bool = False


class State(Protocol):
    """What a dialect knows of a tenant at one place of its log. It is never shared."""

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, those of an opening included."""

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Take the next event into account, and return what is shown of it.

        Of a dialect that is not cumulative: the same as the dialect itself returns.
        """

    def opening(self, milliseconds: int) -> Sequence[Block]:
        """Return the blocks with which a stream begins here, at a time since the epoch."""


@runtime_checkable
class Cumulative(State, Protocol):
    """The state of a dialect that is cumulative."""

    def copy(self) -> Self:
        """Return a state that goes its own way from here."""

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        """Go back to where some executions stood otherwise.

        Args:
            before: all executions of which the dialect may have shown something since then, and how
                they stood then.
        """


@runtime_checkable
class AwaitsWorkflows(State, Protocol):
    """A state that tells of workflows that there are not, and somebody may store them any time."""

    @property
    def missing(self) -> frozenset[str]:
        """Those that it takes for missing."""

    def found(self, workflows: Collection[str]) -> None:
        """Learn that there are some of them."""


class Dialect:
    """How one kind of stream speaks; see the top of the module.

    Attributes:
        name: for logs.
        needs: what must be known of an execution.
        is_verbatim: whether nothing is interpreted of an event but its type.
        heartbeat_factor: the interval of heartbeats, in multiples of the setting.
        is_regular: whether heartbeats come also while there are events.
        wants: what a state begins with; None: there is no state.
        is_cumulative: whether what is shown of an event depends on those before it.
        ring_share: how much of a whole ring a topic has; less where it has few followers.
        recounted: the executions of which a stream that is new is told what came before.
    """

    __slots__ = ()

    name: ClassVar[str]
    needs: ClassVar[Needs] = "nothing"
    is_verbatim: ClassVar[bool] = False
    heartbeat_factor: ClassVar[float] = 1.0
    is_regular: ClassVar[bool] = False
    is_cumulative: ClassVar[bool] = False
    ring_share: ClassVar[float] = 1.0

    @property
    def recounted(self) -> Sequence[str]:
        """The executions of which a stream that is new is told what came before."""
        return ()

    @property
    def slots(self) -> int:
        """How many slots an event has."""
        return 1

    @property
    def wants(self) -> SnapshotQuery | None:
        """What a state begins with; None: there is no state."""
        return None

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins, at a time since the epoch."""
        del part, milliseconds
        return None

    def heartbeat(self, milliseconds: int) -> bytes:
        """Return whole blocks that say that the stream lives, at a time since the epoch."""
        del milliseconds
        return _HEARTBEAT

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Return what is shown of an event: of no cumulative dialect is it asked.

        Args:
            context: its execution, as far as the dialect needs to know it.
            event: the event, as far as it is open.
            stored: the event as it is stored; in both, what nobody is shown is masked.
        """
        raise NotImplementedError

    def begin(self, snapshot: Snapshot) -> State:
        """Return a state that stands where a snapshot was taken."""
        raise NotImplementedError

    def recount(self, execution: str, payload: bytes | None) -> Sequence[Block]:
        """Return what a stream that is new is told of a commit before it.

        Args:
            execution: one of those that are recounted.
            payload: the commit; None: there is no such execution.

        Raises:
            msgspec.DecodeError: the payload is not a commit.
        """
        raise NotImplementedError

    def concerns(self, context: Context, payload: bytes) -> bool:
        """Tell whether anything may be shown of a commit; if not, it is not even opened.

        Args:
            context: its execution, as far as the dialect needs to know it.
            payload: the commit.
        """
        del context, payload
        return True

    def is_urgent(self, context: Context) -> bool:
        """Tell whether what is shown of an execution is to be written at once."""
        del context
        return True


_BLANK: Final = (0,)
# What a commit takes of memory beside its bytes; and each slot, and each that has a frame.
_OVERHEAD: Final = 250
_SLOT: Final = 8
_SHOWN: Final = 32
_HEARTBEAT: Final = frame.comment("heartbeat")

Show = Callable[[Context, LoggedEvent, msgspec.Raw], Slots]


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit in the words of a dialect, ready for the wire.

    Attributes:
        sequence: its place in the log.
        chunk: the frames of all slots of all events, with chunk framing; empty if none is shown.
        ends: for each slot, where its frame ends among the frames.
        is_last: whether an event of it ends the execution.
        is_urgent: whether it is to be written at once.
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
        """Return a commit of which each slot has a frame, perhaps an empty one."""
        ends, end = [], 0
        for each in frames:
            # Of slots in which nothing is shown, which are most, the same number object.
            end = end + len(each) if each else end
            ends.append(end)
        return cls(sequence, chunk(b"".join(frames)), tuple(ends), is_last, is_urgent)

    def not_final(self) -> Self:
        """Return the same commit in a stream that does not end with it."""
        return replace(self, is_last=False)

    @property
    def is_blank(self) -> bool:
        """Whether it was seen as one thing of which nothing is shown."""
        return self.ends == _BLANK

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        ends = _SLOT * len(self.ends) + _SHOWN * len(set(self.ends))
        return _OVERHEAD + len(self.chunk) + ends

    @property
    def joined(self) -> bytes:
        """All frames, without framing."""
        return b"".join(bodies(self.chunk))

    def since(self, index: int) -> bytes:
        """Return the frames from an index on, as one chunk."""
        return self.chunk if index == 0 else chunk(self.joined[self._start(index) :])

    def shown(self, index: int = 0) -> int:
        """Return how many slots from ``index`` on have a frame."""
        starts = (self._start(index), *self.ends[index:])
        return sum(map(lt, starts, starts[1:]))

    def last_shown(self, index: int = 0) -> int | None:
        """Return the index of the last slot from ``index`` on that has a frame."""
        backwards = range(len(self.ends) - 1, index - 1, -1)
        return next((i for i in backwards if self.ends[i] > self._start(i)), None)

    def _start(self, index: int) -> int:
        # Of a tenant's log an id may name a place that no event has.
        return self.ends[min(index, len(self.ends)) - 1] if index and self.ends else 0


_decode_event = msgspec.json.Decoder(LoggedEvent).decode

_Opened = tuple[LoggedEvent | None, msgspec.Raw]


# What all topics are given that show the same commit, one right after the other.
@lru_cache(maxsize=4)
def _opened(payload: bytes, is_newer: bool) -> tuple[_Opened, ...]:
    is_masked = SENSITIVE_KEY in payload
    return tuple(_open(stored, is_newer, is_masked) for stored in split_commit(payload))


def _open(stored: msgspec.Raw, is_newer: bool, is_masked: bool) -> _Opened:
    try:
        slice_ = mask_event(stored) if is_masked else stored
        event = _decode_event(slice_)
    except ILLEGIBLE:
        return None, stored
    event.is_newer = is_newer
    return event, slice_


def tell(
    dialect: Dialect, show: Show, context: Context, event: LoggedEvent, stored: msgspec.Raw
) -> Slots:
    """Return what is shown of an event; nothing if the dialect cannot know what it means.

    Args:
        dialect: how it is told.
        show: what shows its events: the dialect, or its state.
        context: the event's execution, as far as the dialect needs to know it.
        event: the event, as far as it is open.
        stored: the event as it is stored; in both, what nobody is shown is masked.
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

    Args:
        dialect: how it is told.
        epoch: the epoch of the log.
        context: whose it is, as far as the dialect needs to know.
        sequence: its place in the log.
        payload: a JSON array of events.
        show: what shows its events; the dialect, if it is not the dialect's state.
        is_newer: whether a newer version of Tailrace wrote it.

    Raises:
        ILLEGIBLE: the payload is not a commit.
    """
    frames: list[bytes] = []
    is_last = False
    show, nothing = show or dialect.show, (None,) * dialect.slots
    for event, stored in _opened(payload, is_newer):
        is_last = is_last or (event is not None and event.type in TERMINAL_TYPES)
        for block in tell(dialect, show, context, event, stored) if event else nothing:
            if block is None:
                frames.append(NOTHING)
            else:
                event_id = str(StreamPosition(epoch, sequence, len(frames)))
                frames.append(frame.event(block.data, name=block.name, event_id=event_id))
    return EncodedCommit.of(sequence, frames, is_last=is_last, is_urgent=dialect.is_urgent(context))


def without_id(blocks: Sequence[Block]) -> bytes:
    """Return blocks as they go on the wire where they are not in the log, and so have no ids."""
    return b"".join(frame.event(block.data, name=block.name) for block in blocks)


def reset(reason: ResetReason, restart: StreamPosition | None) -> bytes:
    """Return the block that tells a client that its id cannot be served.

    Args:
        reason: why.
        restart: the first event that comes instead; None if there is none.
    """
    data: dict[str, Any] = {"reason": reason, "from": restart and str(restart)}
    return frame.event(msgspec.json.encode(data), name="stream:reset")
