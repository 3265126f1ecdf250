"""Resumption of a stream of several topics, after its opening or in the middle of it.

Ids do not depend on the topics, so a client may change them without losing its place: those that it
had go on after the id, and the others begin with their snapshots.
"""

from collections.abc import Collection
from dataclasses import replace

from tailrace_api.dialects.multiplex import Multiplex
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import SetStart, Start
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.views.opening_position import OpeningPosition
from tailrace_api.fanout.views.view import View


async def resume_set(
    history: History,
    view: View,
    last_event_id: str,
    since: str = "",
    since_topics: Collection[str] = (),
) -> Start:
    """Return where a stream of several topics starts for a client.

    Args:
        history: the history.
        view: several topics of a tenant.
        last_event_id: the id that the client sent; empty for a new client.
        since: the last id of an earlier stream; empty if there was none.
        since_topics: the names of the topics of that stream.

    Raises:
        UnavailableError: NATS did not answer, or too many reads are queued.
    """
    if not isinstance(view.dialect, Multiplex):
        raise TypeError(f"dialect {view.dialect.name!r} does not combine topics")
    new = view.dialect.to_open(since_topics if since else ())
    if last_event_id and (opening := OpeningPosition.parse(last_event_id)):
        start = await resume_tenant(history, view, str(opening.base))
        if start.is_fresh or opening.opened >= len(new):
            return start
        return replace(start, rest=SetStart(new, opening.opened, opening.inside))
    if last_event_id or not since:
        return await resume_tenant(history, view, last_event_id)
    start = await resume_tenant(history, view, since)
    if start.is_fresh or not new:
        return start
    return replace(start, rest=SetStart(new))
