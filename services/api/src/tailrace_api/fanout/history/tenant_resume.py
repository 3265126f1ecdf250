"""Resumption of a tenant's stream after a client's ``Last-Event-ID``.

An id is a position in the log of all tenants. The tenant's events after it are the same whichever
tenant owns the commit at that position. So an id is valid if it lies within the log; the commit
itself is neither read nor disclosed.
"""

from tailrace_api.dialects.encoding import ResetReason, reset
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import Start, resume_from_ring
from tailrace_api.fanout.views.view import View
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.execution_log import LogEdge


async def resume_tenant(history: History, view: View, last_event_id: str) -> Start:
    """Return where the stream of a tenant starts for a client.

    Args:
        history: the history.
        view: a tenant.
        last_event_id: the id that the client sent; empty for a new client.

    Raises:
        UnavailableError: NATS did not answer, or too many reads are queued.
    """
    if not last_event_id:
        return Start(is_fresh=True)
    if start := resume_from_ring(history, view, last_event_id):
        return start
    position = StreamPosition.parse(last_event_id)
    if position is None:
        return _restart("unknown")
    edge = await history.replay.edge(position.sequence)
    if reason := _reset_reason(position, edge):
        return _restart(reason)
    return Start(position.sequence, position.index + 1, seen=position)


def _reset_reason(position: StreamPosition, edge: LogEdge) -> ResetReason | None:
    if position.epoch != edge.epoch:
        return "recreated"
    if position.sequence > edge.last_sequence:
        return "unknown"
    # If the commit has expired, events after it may have expired as well. At the end of the log the
    # client has them all, even if everything has expired. Sequence 0, where an empty log begins,
    # has no commit.
    is_end = position.sequence == edge.last_sequence
    is_retained = max(position.sequence, 1) >= edge.first_sequence
    return None if is_retained or is_end else "expired"


def _restart(reason: ResetReason) -> Start:
    return Start(reset=reset(reason, None), is_fresh=True)
