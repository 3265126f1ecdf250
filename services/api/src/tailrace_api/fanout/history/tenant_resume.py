"""Resumption of a tenant's stream: what the id that a client comes back with means here and now.

An id is a place in the log of all tenants. What follows it of one tenant is the same wherever the
place itself belongs to: so an id is honoured if its place is within the log, and whose commit is
there is neither looked up nor told.
"""

from typing import TYPE_CHECKING

from tailrace_api.dialects.dialect import ResetReason, reset
from tailrace_api.fanout.history.resume import Start, at_hand
from tailrace_api.fanout.views.view import View
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.execution_log import LogEdge

if TYPE_CHECKING:
    from tailrace_api.fanout.hub import Hub


async def resume_tenant(hub: "Hub", view: View, last_event_id: str) -> Start:
    """Return where the stream of a tenant starts for a client.

    Args:
        hub: who reads.
        view: a tenant.
        last_event_id: what the client sent; empty if it is new.

    Raises:
        UnavailableError: NATS did not answer, or has too many answers to give.
    """
    if not last_event_id:
        return Start(is_fresh=True)
    if start := at_hand(hub, view, last_event_id):
        return start
    position = StreamPosition.parse(last_event_id)
    if position is None:
        return _anew("unknown")
    edge = await hub.replay.edge(position.sequence)
    if reason := _lost(position, edge):
        return _anew(reason)
    return Start(position.sequence, position.index + 1, seen=position)


def _lost(position: StreamPosition, edge: LogEdge) -> ResetReason | None:
    if position.epoch != edge.epoch:
        return "recreated"
    if position.sequence > edge.last_sequence:
        return "unknown"
    # Of a commit that has expired some events may have been missed. Where everything has, and the
    # client had come to the end, it was there until then. And of place 0, where a log begins that
    # is empty, there is no commit.
    is_end = position.sequence == edge.last_sequence
    is_held = max(position.sequence, 1) >= edge.first_sequence
    return None if is_held or is_end else "expired"


def _anew(reason: ResetReason) -> Start:
    return Start(reset=reset(reason, None), is_fresh=True)
