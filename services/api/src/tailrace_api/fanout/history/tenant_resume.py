"""Resumption of a tenant's stream after a client's ``Last-Event-ID``.

An id is a position in the log of all tenants. The tenant's events after it are the same whichever
tenant owns the commit at that position. So an id is valid if it lies within the log, and not before
the tenant's horizon, the last commit of the tenant that was deleted. The commit itself is neither
read nor disclosed.
"""

from dataclasses import replace

from tailrace_api.dialects.encoding import ResetReason, reset
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.replay import is_before
from tailrace_api.fanout.history.resume import Start, lost_reason, read_edge, resume_from_ring
from tailrace_api.fanout.views.view import View
from tailrace_shared.position import StreamPosition


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
    position = StreamPosition.parse(last_event_id)
    if position is None:
        return _restart("unknown")
    position = replace(position, index=view.dialect.upgraded(position.index))
    if start := resume_from_ring(history, view, str(position)):
        return start
    if reason := await _reset_reason(history, view.part.tenant, position):
        return _restart(reason)
    return Start(position.sequence, position.index + 1, seen=position)


async def _reset_reason(
    history: History, tenant: str, position: StreamPosition
) -> ResetReason | None:
    edge = await read_edge(history, position)
    if reason := lost_reason(position, edge):
        return reason
    horizon = await history.replay.horizon(tenant)
    if horizon and not edge.expires_by_age:
        # After its horizon nothing of the tenant is deleted, also if others have lost commits.
        return "expired" if is_before(position.sequence, position.index + 1, horizon) else None
    # If the commit has expired, events after it may have expired as well, unless the next one is
    # there. Sequence 0, where an empty log begins, has no commit.
    is_retained = position.sequence + 1 >= edge.first_sequence
    is_before_horizon = is_before(position.sequence, position.index + 1, horizon)
    return None if is_retained and not is_before_horizon else "expired"


def _restart(reason: ResetReason) -> Start:
    return Start(reset=reset(reason, None), is_fresh=True)
