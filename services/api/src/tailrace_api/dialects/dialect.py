"""The interface of a dialect, which is the format of one kind of stream.

A dialect is pure and knows no client. The hub calls it once per commit and sends the same bytes to
all clients. A dialect is a frozen, hashable object, because it is part of the key under which the
hub shares work: streams with equal dialects share everything. A dialect without parameters is a
constant; one with parameters (which pipelines? which topics?) is a frozen dataclass.

**Slots.** An event has a fixed number of slots, the dialect's ``slots``. Each holds a block or
None. The index of an SSE id is ``first_index + index of the event * stride + first_slot + slot``,
by default ``index of the event * slots + slot``. So all replicas assign equal ids, whichever part
of the log they have read. Streams of one execution have one slot.

**Contexts.** Most events do not name their workflow. A dialect declares in ``needs`` what it must
know of the execution beside its id: nothing, the workflow's id, or the context from the first
event. Streams of a tenant meet executions in the middle; the hub finds the context before it shows
any event of them.

**States.** A dialect whose streams begin with a snapshot has a state: ``snapshot_query`` says what
it is made from, and ``begin`` makes it. The hub keeps it at the newest commit of the topic and
passes it every event. `State.opening` returns the blocks with which a new stream begins; the next
block belongs to the first commit after the state. A dialect is *cumulative* if what it shows of an
event depends on earlier events. Then only the state shows events, and it can be rewound to an
earlier position (`CumulativeState`). Workflows are not in the log: a state learns that a missing
workflow exists before a stream opens (`AwaitsWorkflows`).

**Versions.** A commit of a newer version of Tailrace may mean anything. It is not shown, unless the
dialect interprets nothing of an event but its type (``is_verbatim``).

**Illegible events.** Other programs may write to the log. An event that a dialect cannot read is
not shown; the other events of its commit are (`tailrace_api.dialects.encoding.render`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Final, Literal, Protocol, Self, runtime_checkable

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_api.sse import frame
from tailrace_shared.subjects import LogFilter

Needs = Literal["nothing", "workflow", "context"]

FIRST_INDEX: Final = 500_000
"""The first index of dialects whose slots have changed; below it are indexes of version 0.2."""

Slots = tuple[Block | None, ...]
"""The blocks of one event, with None for empty slots."""

ILLEGIBLE: Final = (ValueError, RecursionError)
"""Errors of decoding what is not an event: invalid JSON, UTF-8 or time, or nested too deeply."""

_HEARTBEAT: Final = frame.comment("heartbeat")


class LoggedEvent(msgspec.Struct):
    """An event as a dialect decodes it; its data stays the stored bytes.

    Attributes:
        type: for example ``step:started``.
        data: JSON.
        timestamp: when it happened (RFC 3339).
        is_newer: whether a newer version of Tailrace wrote its commit.
        commit_status: the header that summarizes the execution after the commit; empty if absent.
    """

    type: str
    data: msgspec.Raw
    timestamp: str = ""
    is_newer: bool = False
    commit_status: str = ""


class State(Protocol):
    """A dialect's knowledge of a tenant at one position of its log; owned by one topic."""

    @property
    def size(self) -> int:
        """The approximate memory in bytes, including that of an opening."""

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Apply the next event, and return what is shown of it.

        Unless the dialect is cumulative, the result equals that of the dialect itself.
        """

    def opening(self, milliseconds: int) -> Sequence[Block]:
        """Return the blocks with which a stream begins here, at a time (Unix ms)."""


@runtime_checkable
class CumulativeState(State, Protocol):
    """The state of a cumulative dialect."""

    def copy(self) -> Self:
        """Return an independent copy."""

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        """Return to an earlier position.

        Args:
            before: the earlier status of all executions of which the dialect may have shown
                something since then.
        """


@runtime_checkable
class AwaitsWorkflows(State, Protocol):
    """A state that reports workflows as missing, which may be stored at any time."""

    @property
    def missing(self) -> frozenset[str]:
        """The workflows that it reports as missing."""

    def add_workflows(self, workflows: Collection[str]) -> None:
        """Note that some of the missing workflows exist by now."""


class Dialect:
    """The format of one kind of stream; see the top of the module.

    Attributes:
        name: for logs.
        needs: what must be known of an execution.
        is_verbatim: whether nothing of an event is interpreted but its type.
        heartbeat_factor: the heartbeat interval as a multiple of the setting.
        is_regular: whether heartbeats are sent even while there are events.
        heartbeat_has_id: whether heartbeats are events and carry the position.
        is_cumulative: whether what is shown of an event depends on earlier events.
        is_endless: whether a stream of one execution goes on after the execution's last event.
        first_index: the index of the first slot of a commit.
        topic_slot: the place of the first slot among those of an event in a multiplexed stream. It
            is a part of ids, so it never changes, and no two kinds of topics share a slot.
        ring_share: the size of a topic's ring, relative to a whole one; small for topics with few
            followers.
    """

    __slots__ = ()

    name: ClassVar[str]
    needs: ClassVar[Needs] = "nothing"
    is_verbatim: ClassVar[bool] = False
    heartbeat_factor: ClassVar[float] = 1.0
    is_regular: ClassVar[bool] = False
    heartbeat_has_id: ClassVar[bool] = False
    is_cumulative: ClassVar[bool] = False
    is_endless: ClassVar[bool] = False
    first_index: ClassVar[int] = 0
    topic_slot: ClassVar[int] = 0
    ring_share: ClassVar[float] = 1.0

    @property
    def slots(self) -> int:
        """The number of slots of an event."""
        return 1

    @property
    def earlier_slots(self) -> int:
        """The number of slots in version 0.2."""
        return self.slots

    def upgraded(self, index: int) -> int:
        """Return the present index of an event that an id of version 0.2 may name."""
        return index

    @property
    def stride(self) -> int:
        """The distance of the indexes of consecutive events."""
        return self.slots

    @property
    def first_slot(self) -> int:
        """The place of the first slot among the indexes of an event."""
        return 0

    def last_index(self, events: int) -> int:
        """Return the last index of a commit with some events; -1 for none."""
        return self.first_index + events * self.stride - 1 if events else -1

    @property
    def workflows(self) -> frozenset[str] | None:
        """The workflows of which anything is shown; None for all."""
        return None

    @property
    def snapshot_query(self) -> SnapshotQuery | None:
        """The snapshot from which the state begins; None without a state."""
        return None

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins at a time (Unix ms), if any."""
        del part, milliseconds
        return None

    def heartbeat(self, milliseconds: int, event_id: str) -> bytes:
        """Return the frames of a heartbeat at a time (Unix ms).

        Args:
            event_id: the client's position; empty while it has none. A comment cannot carry it.
        """
        del milliseconds, event_id
        return _HEARTBEAT

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Return what is shown of an event; never called for cumulative dialects.

        Args:
            stored: the event as it is stored. Sensitive values are masked in both.
        """
        raise NotImplementedError

    def begin(self, snapshot: Snapshot) -> State:
        """Return the state at the position of a snapshot."""
        raise NotImplementedError

    def concerns(self, context: Context, payload: bytes) -> bool:
        """Return whether anything of a commit may be shown; if not, it is not decoded.

        Args:
            context: the execution; without what its first event says, even if that is needed to
                show the commit.
            payload: the commit.
        """
        del context, payload
        return True

    def is_urgent(self, context: Context) -> bool:
        """Return whether events of an execution must be written at once."""
        del context
        return True
