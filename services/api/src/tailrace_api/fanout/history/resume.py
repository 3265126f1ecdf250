"""Resumption of an execution's stream after a client's ``Last-Event-ID``.

Ids are positions in the log, so any replica can serve any of them. An id is valid if the commit at
its sequence belongs to this execution and has that many events. For any other id, the stream
reports a `stream:reset` and begins with the execution's first event: an EventSource that receives
an HTTP error never reconnects.

The replica that served the id may have known more of the log than the one that answers now.
`tailrace_api.fanout.history.log_edges` explains when the log is believed not to have something.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.encoding import ResetReason, reset
from tailrace_api.dialects.multiplex import NamedTopic
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.replay import LocatedCommit
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import ExecutionNotFoundError, LaggingReplicaError, UnavailableError
from tailrace_shared.execution.commits import decode_slice, split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.log_records import Commit, LogEdge


class SetStart(NamedTuple):
    """Topics of a set that a stream has to open.

    Attributes:
        topics: those that the client had not had before.
        opened: how many of them have been opened.
        inside: the sequence and the index of the last event received of the next one, or None.
    """

    topics: tuple[NamedTopic, ...]
    opened: int = 0
    inside: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream starts.

    Attributes:
        sequence: the lowest sequence that the first event's commit can have.
        index: the index of the first event in the commit at exactly that sequence.
        seen: the position that the client already has.
        reset: the block that tells the client that its id cannot be served.
        is_over: whether the client already has the last event.
        is_gone: whether nothing is left of the execution but its id.
        is_fresh: whether the stream starts at the edge of its topic instead of a position.
        rest: the topics that do not start at the position, but are still to be opened.
        is_in_ring: whether the position was found in memory, without a read of the log.
    """

    sequence: int = 1
    index: int = 0
    seen: StreamPosition | None = None
    reset: Block | None = None
    is_over: bool = False
    is_gone: bool = False
    is_fresh: bool = False
    rest: SetStart | None = None
    is_in_ring: bool = False

    @property
    def source(self) -> str:
        """Where a client that resumes goes on: ``ring``, ``log`` or ``reset``; else empty."""
        if self.reset is not None:
            return "reset"
        if self.seen is None:
            return ""
        return "ring" if self.is_in_ring else "log"


class LostPosition(NamedTuple):
    """Why an id names no event.

    Attributes:
        reason: the reason, as the client receives it.
        edge: where the log begins and ends, if it was read.
    """

    reason: ResetReason
    edge: LogEdge | None = None

    def final_reset(self, last_event_id: str, horizon: int) -> Start | None:
        """Return a start that only resets, for a client whose execution is gone completely.

        Args:
            last_event_id: the id that the client sent.
            horizon: the last sequence of the client's tenant that was deleted.

        Returns:
            None for ids that may never have existed, among them the id that this reset sends: then
            the execution is not found.
        """
        position = StreamPosition.parse(last_event_id)
        if self.edge is None or position is None:
            return None
        epoch, first, last, *_ = self.edge
        is_expired = position.sequence < last and position.sequence < max(first, horizon + 1)
        if self.reason != "restored" and not (self.reason == "expired" and is_expired):
            return None
        seen = StreamPosition(epoch, last, 0)
        return Start(seen=seen, reset=reset(self.reason, None), is_gone=True)


class ResumePoint(NamedTuple):
    """The event that an id names, with its tenant and execution."""

    tenant: str
    execution: str
    position: StreamPosition
    commit: Commit

    def start(self) -> Start:
        """Return the start after this event."""
        events = split_commit(self.commit.payload)
        seen = events[: self.position.index + 1]
        is_over = any(decode_slice(event).type in TERMINAL_TYPES for event in seen)
        sequence, index = self.position.sequence, self.position.index + 1
        if index == len(events):
            sequence, index = sequence + 1, 0
        return Start(sequence, index, seen=self.position, is_over=is_over)


async def find(history: History, last_event_id: str) -> ResumePoint | LostPosition:
    """Return the event that an id names, or why there is none.

    Raises:
        UnavailableError: NATS did not answer.
    """
    position = StreamPosition.parse(last_event_id)
    if position is None or not position.sequence:
        return LostPosition("unknown")
    found = await _find(history, position)
    if isinstance(found, LostPosition):
        return found
    tenant, execution, commit = found
    if position.index >= len(split_commit(commit.payload)):
        return LostPosition("unknown")
    return ResumePoint(tenant, execution, position, commit)


async def _find(history: History, position: StreamPosition) -> LocatedCommit | LostPosition:
    found = None
    if position.epoch == history.runtime.epoch:
        found = await history.replay.find_next(position.sequence)
        if found is not None and found[2].sequence == position.sequence:
            return found
    edge = await read_edge(history, position)
    if reason := lost_reason(position, edge):
        return LostPosition(reason, edge)
    if found is None and position.sequence >= edge.first_sequence:
        found = await history.edges.find(position.sequence)
        if found is not None:
            return found
    return LostPosition("expired", edge)


async def read_edge(history: History, position: StreamPosition) -> LogEdge:
    """Return where the log ends, for a client that has a position in it.

    Raises:
        UnavailableError: NATS did not answer, only replicas that may lag, or too many reads are
            queued.
    """
    runtime = history.runtime
    at_least = position.sequence if position.epoch == runtime.epoch else 0
    edge = await history.edges.read(at_least, is_new=True)
    runtime.lost = edge.lost
    if edge.epoch != runtime.epoch:
        # Streams cannot be served before the hub has adopted the new epoch.
        runtime.reconcile_requested.set()
        raise UnavailableError("the log was recreated")
    return edge


def lost_reason(position: StreamPosition, edge: LogEdge) -> ResetReason | None:
    """Return why a position does not lie within the log, or None."""
    if position.epoch != edge.epoch:
        return "recreated"
    # The log gave out the id and has lost it since: it never goes back otherwise.
    is_lost = position.sequence > edge.last_sequence or is_in(position.sequence, edge.lost)
    return "restored" if is_lost else None


def is_in(sequence: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Return whether a sequence lies in one of some ranges, whose ends belong to them."""
    return any(first <= sequence <= last for first, last in ranges)


def resume_from_ring(history: History, view: View, last_event_id: str) -> Start | None:
    """Return the start of a stream if the ring of its topic knows the id, or None.

    Args:
        history: the history.
        view: the requested view; it must belong to the client's tenant.
        last_event_id: the id that the client sent; not empty.
    """
    position = StreamPosition.parse(last_event_id)
    ring = history.topics.ring(view)
    if position is None or ring is None or is_in(position.sequence, history.runtime.lost):
        return None
    commit = ring.find(position.sequence)
    if view.part.execution and (
        commit is None or commit.is_last or position.index > commit.last_index
    ):
        return None
    after = ring.after(position)
    return None if after is None else Start(*after, seen=position, is_in_ring=True)


async def resume(history: History, view: View, last_event_id: str) -> Start:
    """Return where the stream of an execution starts for a client.

    Args:
        history: the history.
        view: an execution.
        last_event_id: the id that the client sent; empty for a new client.

    Raises:
        ExecutionNotFoundError: the tenant has no such execution.
        UnavailableError: NATS did not answer, or too many reads are queued.
    """
    if last_event_id and (start := resume_from_ring(history, view, last_event_id)):
        return start
    found = await find(history, last_event_id) if last_event_id else None
    if isinstance(found, ResumePoint):
        if (found.tenant, found.execution) == view.part:
            return found.start()
        found = LostPosition("unknown")
    epoch = history.runtime.epoch
    # The page is cached, and clients that start at the beginning need it right afterwards.
    first = (await history.page(view, epoch, 1, is_new=True)).first
    if first is not None:
        if found is None:
            return Start()
        restart = StreamPosition(found.edge.epoch if found.edge else epoch, first, 0)
        return Start(reset=reset(found.reason, restart))
    if await history.edges.newest(view.part) is not None:
        raise LaggingReplicaError("the replica of the log that answered lags behind")
    if found is not None and (start := await _final_reset(history, view, last_event_id, found)):
        return start
    raise ExecutionNotFoundError(f"there is no execution {view.part.execution!r}")


async def _final_reset(
    history: History, view: View, last_event_id: str, lost: LostPosition
) -> Start | None:
    """Return a start that only resets, if the client's execution has existed."""
    tenant = view.part.tenant
    horizon = await history.replay.horizon(tenant)
    start = lost.final_reset(last_event_id, horizon)
    if start is None and lost.reason == "expired":
        # Both may have been cached just before the execution was deleted.
        lost = lost._replace(edge=await history.log.edge())
        start = lost.final_reset(last_event_id, await history.replay.current_horizon(tenant))
    return start
