"""Opening streams: what all routes that answer with events have in common."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.dialects.dialect import Dialect
from tailrace_api.fanout.history.replay import ReplayBusyError
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import Writing
from tailrace_api.http.event_stream import EventStream, come_back_later
from tailrace_api.web.operation import Parameter
from tailrace_shared.errors import UnavailableError
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import LogFilter

LAST_EVENT_ID: Final = (
    Parameter(
        "Last-Event-ID",
        str,
        "The id of the last event that the client has; the stream goes on after it.",
        place="header",
    ),
    Parameter("last_event_id", str, "The same, for clients that cannot send the header."),
    Parameter("lastEventId", str, "The same, as polyfills of EventSource send it."),
)
"""What every stream takes."""


class Opening:
    """Opens streams.

    Args:
        settings: how they are written.
        hub: who streams.
    """

    def __init__(self, settings: ApiSettings, hub: Hub) -> None:
        self._hub = hub
        self._writing = Writing(
            settings.direct_writes, settings.send_buffer, settings.stall_timeout
        )

    def refusal(self, view: View) -> Response | None:
        """Return the answer to a client that is to come back later; None if it is served.

        To be asked first, and waited for by nobody: an EventSource gets its first byte at once.
        """
        reason = self._hub.refusal(view)
        return self.later(reason) if reason else None

    async def tenant(self, request: Request, tenant: str, dialect: Dialect) -> Response:
        """Stream a tenant from now on, or from after the client's last id."""
        view = View(dialect, LogFilter(tenant))
        if refused := self.refusal(view):
            return refused
        try:
            start = await resume_tenant(self._hub, view, last_event_id_of(request))
        except UnavailableError as error:
            return self.unavailable(error)
        return self.stream(view, start)

    def stream(self, view: View, start: Start) -> Response:
        """Stream a view."""
        if start.is_over:
            # The one answer on which a browser's EventSource stops to reconnect.
            return Response(status_code=204)
        # Others may have come while the log was read.
        return self.refusal(view) or self.insist(view, start)

    def insist(self, view: View, start: Start) -> Response:
        """Stream a view even to a client more than there may be."""
        return EventStream(self._hub, view, start, self._writing)

    def unavailable(self, error: UnavailableError) -> Response:
        """Answer a client whose stream cannot be read now."""
        return self.later("busy" if isinstance(error, ReplayBusyError) else "unavailable")

    def later(self, reason: str) -> Response:
        """Answer a client that is to come back later."""
        return come_back_later(self._hub.refuse(reason))


def last_event_id_of(request: Request) -> str:
    """Return the id of the last event that a client has; empty if it is new."""
    query = request.query_params
    header = request.headers.get("last-event-id")
    return header or query.get("last_event_id") or query.get("lastEventId", "")
