"""Resumption: what the id that a client comes back with means here and now.

Ids are positions in the log, so any replica can serve any of them. An id is honoured if the commit
at its sequence is this execution's and has that many events. Whatever else a client sends, it is
told in the stream itself and gets the execution from its first event on: an EventSource that is
answered with an error gives up for good.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tailrace_api.dialects.dialect import ResetReason, reset
from tailrace_api.fanout.history.replay import Replay
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import ExecutionNotFoundError, UnavailableError
from tailrace_shared.execution.commits import decode_slice, split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.execution_log import Commit, ExecutionLog, LogEdge

if TYPE_CHECKING:
    from tailrace_api.fanout.hub import Hub


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream starts.

    Attributes:
        sequence: the commit of the first event to send, or the lowest that it may have.
        index: the first event to send of that commit.
        seen: the position that the client has already.
        reset: the block that tells it that it asked for something else.
        is_over: whether the client has all that there will ever be.
        is_gone: whether nothing is left of the execution but its id.
        is_fresh: whether it starts wherever its topic stands then, not at a place.
    """

    sequence: int = 1
    index: int = 0
    seen: StreamPosition | None = None
    reset: bytes = b""
    is_over: bool = False
    is_gone: bool = False
    is_fresh: bool = False


class Lost(NamedTuple):
    """Why an id names no event, and where the log begins and ends if that was asked."""

    reason: ResetReason
    edge: LogEdge | None = None

    def rest(self, last_event_id: str) -> Start | None:
        """Return what a client of an execution that is wholly gone still gets, if anything.

        Its id was one of ours, so the execution was there; whose it was, nobody knows any more.
        Not again with the id that it gets here: then the execution is simply not found.
        """
        position = StreamPosition.parse(last_event_id)
        if self.reason != "expired" or self.edge is None or position is None:
            return None
        epoch, first, last = self.edge
        if position.sequence >= min(first, last):
            return None
        return Start(
            seen=StreamPosition(epoch, last, 0), reset=reset("expired", None), is_gone=True
        )


class ResumePoint(NamedTuple):
    """The event that an id names, and whose it is."""

    tenant: str
    execution: str
    position: StreamPosition
    commit: Commit

    def start(self) -> Start:
        """Return where a stream goes on after this event."""
        events = split_commit(self.commit.payload)
        seen = events[: self.position.index + 1]
        is_over = any(decode_slice(event).type in TERMINAL_TYPES for event in seen)
        return _after(self.position, len(events), is_over=is_over)


def _after(position: StreamPosition, events: int, *, is_over: bool = False) -> Start:
    """Return where a stream goes on after an event of a commit that has so many events."""
    sequence, index = position.sequence, position.index + 1
    if index == events:
        sequence, index = sequence + 1, 0
    return Start(sequence, index, seen=position, is_over=is_over)


async def find(log: ExecutionLog, replay: Replay, epoch: str, text: str) -> ResumePoint | Lost:
    """Return the event that an id names, or why there is none.

    Args:
        log: where to look.
        replay: where to look first.
        epoch: the stream's epoch, as far as this process knows.
        text: the id.

    Raises:
        UnavailableError: NATS did not answer.
    """
    position = StreamPosition.parse(text)
    if position is None or not position.sequence:
        return Lost("unknown")
    found = await _find(log, replay, epoch, position)
    if isinstance(found, Lost):
        return found
    tenant, execution, commit = found
    if position.index >= len(split_commit(commit.payload)):
        return Lost("unknown")
    return ResumePoint(tenant, execution, position, commit)


async def _find(
    log: ExecutionLog, replay: Replay, epoch: str, position: StreamPosition
) -> tuple[str, str, Commit] | Lost:
    if position.epoch == epoch and (found := await replay.find(position.sequence)):
        return found
    edge = await log.edge()
    if position.epoch != edge.epoch:
        return Lost("recreated", edge)
    if position.sequence > edge.last_sequence:
        return Lost("unknown", edge)
    if position.sequence < edge.first_sequence:
        return Lost("expired", edge)
    # Removed by itself; unless the answer came from a replica that is not quite up to date.
    return await log.find_on_leader(position.sequence) or Lost("expired", edge)


def at_hand(hub: "Hub", view: View, last_event_id: str) -> Start | None:
    """Return where a stream starts for a client if that can be said without the log, or None.

    Args:
        hub: who has topics.
        view: what the client asks for; never of another tenant than the client's.
        last_event_id: what the client sent; not empty.
    """
    position = StreamPosition.parse(last_event_id)
    ring = hub.ring(view)
    if position is None or ring is None:
        return None
    commit = ring.find(position.sequence)
    if view.part.execution and (
        commit is None or commit.is_last or position.index >= len(commit.ends)
    ):
        return None
    after = ring.after(position)
    return None if after is None else Start(*after, seen=position)


async def resume(log: ExecutionLog, hub: "Hub", view: View, last_event_id: str) -> Start:
    """Return where the stream of an execution starts for a client.

    Args:
        log: where to look.
        hub: who may have what is looked for.
        view: an execution.
        last_event_id: what the client sent; empty if it is new.

    Raises:
        ExecutionNotFoundError: the tenant has no such execution.
        UnavailableError: NATS did not answer, or has too many answers to give.
    """
    if last_event_id and (start := at_hand(hub, view, last_event_id)):
        return start
    replay = hub.replay
    found = await find(log, replay, hub.epoch, last_event_id) if last_event_id else None
    if isinstance(found, ResumePoint):
        if (found.tenant, found.execution) == view.part:
            return found.start()
        found = Lost("unknown")
    # Those who begin at the beginning want this page, too.
    first = (await replay.page(view, hub.epoch, 1, is_new=True)).first
    if first is not None:
        if found is None:
            return Start()
        epoch = found.edge.epoch if found.edge else hub.epoch
        return Start(reset=reset(found.reason, StreamPosition(epoch, first, 0)))
    if await log.newest(view.part) is not None:
        raise UnavailableError("the replica of the log that answers is not up to date")
    if found is not None and (rest := found.rest(last_event_id)):
        return rest
    raise ExecutionNotFoundError(f"there is no execution {view.part.execution!r}")
