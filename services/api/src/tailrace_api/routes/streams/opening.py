"""The opening of streams, shared by all streaming routes."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.dialects.dialect import Dialect
from tailrace_api.fanout.history.replay import ReplayBusyError
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import WriterSettings
from tailrace_api.http.event_stream import EventStream, come_back_later
from tailrace_api.web.operation import Parameter
from tailrace_api.web.query import OPTIONAL_WHITESPACE
from tailrace_shared.errors import UnavailableError
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import LogFilter

LAST_EVENT_ID: Final = (
    Parameter(
        "Last-Event-ID",
        str,
        "The id of the last received event; the stream resumes after it.",
        place="header",
    ),
    Parameter(
        "last_event_id", str, "Same as `Last-Event-ID`, for clients that cannot send headers."
    ),
    Parameter(
        "lastEventId", str, "Same as `Last-Event-ID`, under the name used by EventSource polyfills."
    ),
)
"""Parameters of every stream."""


class Opening:
    """Opens streams on a hub."""

    def __init__(self, settings: ApiSettings, hub: Hub) -> None:
        self._hub = hub
        self._writing = WriterSettings(
            settings.direct_writes, settings.send_buffer, settings.stall_timeout
        )

    def refusal(self, view: View) -> Response | None:
        """Return the response that makes a client reconnect later; None if there is capacity.

        Call it before any wait: an EventSource must get its first byte at once.
        """
        reason = self._hub.refusal(view)
        return self.later(reason) if reason else None

    async def tenant(self, request: Request, tenant: str, dialect: Dialect) -> Response:
        """Stream a tenant from now on, or resume after the client's last id."""
        view = View(dialect, LogFilter(tenant))
        if refused := self.refusal(view):
            return refused
        try:
            start = await resume_tenant(self._hub.history, view, last_event_id_of(request))
        except UnavailableError as error:
            return self.unavailable(error)
        return self.stream(view, start)

    def stream(self, view: View, start: Start) -> Response:
        """Stream a view if there is capacity; 204 if the client has all of it."""
        if start.is_over:
            # 204 is the only status that stops a browser's EventSource from reconnecting.
            return Response(status_code=204)
        # Other streams may have used up the capacity while the log was read.
        return self.refusal(view) or self.stream_unlimited(view, start)

    def stream_unlimited(self, view: View, start: Start) -> Response:
        """Stream a view even if the quota is exceeded."""
        return EventStream(self._hub, view, start, self._writing)

    def unavailable(self, error: UnavailableError) -> Response:
        """Return the response for a stream whose log cannot be read now."""
        return self.later("busy" if isinstance(error, ReplayBusyError) else "unavailable")

    def later(self, reason: str) -> Response:
        """Return the response that makes a client reconnect later."""
        return come_back_later(self._hub.refuse(reason))


def last_event_id_of(request: Request) -> str:
    """Return the id of the last event that the client received; empty for a new client."""
    query = request.query_params
    header = request.headers.get("last-event-id")
    text = header or query.get("last_event_id") or query.get("lastEventId", "")
    return text.strip(OPTIONAL_WHITESPACE)
