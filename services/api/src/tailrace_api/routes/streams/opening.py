"""The opening of streams, shared by all streaming routes."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.encoding import refused, with_last_id
from tailrace_api.dialects.multiplex import Multiplex
from tailrace_api.fanout.history.replay import ReplayBusyError
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.history.set_resume import resume_set
from tailrace_api.fanout.history.tenant_resume import resume_tenant
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import WriterSettings
from tailrace_api.http.event_stream import EventStream, come_back_later, whole_stream
from tailrace_api.web.operation import EVENT_STREAM, Parameter
from tailrace_api.web.problems import LimitError, RefusedError
from tailrace_api.web.query import OPTIONAL_WHITESPACE
from tailrace_api.web.strict_query import check_repeated
from tailrace_shared.errors import InvalidIdError, UnavailableError
from tailrace_shared.redact.credentials import redact_credentials
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

_ID_PARAMETERS: Final = frozenset({"last_event_id", "lastEventId"})

F = TypeVar("F", bound=Callable[..., Any])


class Opening:
    """Opens streams on a hub."""

    def __init__(self, settings: ApiSettings, hub: Hub) -> None:
        self._hub = hub
        self._writing = WriterSettings(
            settings.direct_writes, settings.send_buffer, settings.stall_timeout
        )

    def refusal(self, view: View, last_event_id: str = "") -> Response | None:
        """Return the response that makes a client reconnect later; None if there is capacity.

        Call it before any wait: an EventSource must get its first byte at once.
        """
        reason = self._hub.refusal(view)
        return self.later(reason, last_event_id) if reason else None

    async def tenant(self, request: Request, tenant: str, dialect: Dialect) -> Response:
        """Stream a tenant from now on, or resume after the client's last id."""
        view, last_event_id = View(dialect, LogFilter(tenant)), last_event_id_of(request)
        if refused := self.refusal(view, last_event_id):
            return refused
        try:
            start = await resume_tenant(self._hub.history, view, last_event_id)
        except UnavailableError as error:
            return self.unavailable(error, last_event_id)
        return self.stream(view, start, last_event_id)

    async def topics(self, request: Request, tenant: str, dialect: Multiplex) -> Response:
        """Stream some topics of a tenant from now on, or resume after the client's last id."""
        view, last_event_id = View(dialect, LogFilter(tenant)), last_event_id_of(request)
        if refused := self.refusal(view, last_event_id):
            return refused
        query = request.query_params
        since, since_topics = query.get("since", ""), query.get("since_topics", "")
        try:
            start = await resume_set(
                self._hub.history, view, last_event_id, since, since_topics.split(",")
            )
        except UnavailableError as error:
            return self.unavailable(error, last_event_id)
        return self.stream(view, start, last_event_id)

    def stream(self, view: View, start: Start, last_event_id: str = "") -> Response:
        """Stream a view if there is capacity; 204 if the client has all of it."""
        if start.is_over:
            # 204 is the only status that stops a browser's EventSource from reconnecting.
            return Response(status_code=204)
        # Other streams may have used up the capacity while the log was read.
        return self.refusal(view, last_event_id) or self.stream_unlimited(view, start)

    def stream_unlimited(self, view: View, start: Start) -> Response:
        """Stream a view even if the quota is exceeded."""
        return EventStream(self._hub, view, start, self._writing)

    def unavailable(self, error: UnavailableError, last_event_id: str) -> Response:
        """Return the response for a stream whose log cannot be read now."""
        reason = "busy" if isinstance(error, ReplayBusyError) else "unavailable"
        return self.later(reason, last_event_id)

    def later(self, reason: str, last_event_id: str = "") -> Response:
        """Return the response that makes a client reconnect later."""
        if last_event_id:
            self._hub.counts.resumes["rejected"] += 1
        return come_back_later(reason, self._hub.refuse(reason), last_event_id)


def refuses_in_band(handler: F) -> F:
    """Decorate the handler of a stream that an EventSource opens: say in the stream what is wrong.

    A status other than 200 would end an EventSource for good, and its page could not read why.
    Unknown parameters are ignored, because caches and proxies add some. A wrong request is refused
    in the stream, with an id of its own; a reconnect with that id gets 204, the only answer that
    stops an EventSource. Clients that do not ask for an event stream get 400 for a malformed
    request.
    """

    @functools.wraps(handler)
    async def served(self: Any, request: Request) -> Response:
        refusal_id = _refusal_id(request)
        if last_event_id_of(request) == refusal_id:
            return Response(status_code=204)
        try:
            check_repeated(request)
            response: Response = await handler(self, request)
        except (RefusedError, InvalidIdError) as error:
            is_wrong = isinstance(error, InvalidIdError) or error.status == 400
            if isinstance(error, LimitError) or (is_wrong and _wants_events(request)):
                reason = "too_many" if isinstance(error, LimitError) else "invalid_request"
                detail = redact_credentials(str(error))
                return whole_stream(with_last_id([refused(reason, None, detail)], refusal_id))
            raise
        return response

    return served  # type: ignore[return-value]


def _refusal_id(request: Request) -> str:
    """Return the id of a refusal of this request, which equal requests share."""
    asked = sorted(
        pair for pair in request.query_params.multi_items() if pair[0] not in _ID_PARAMETERS
    )
    digest = hashlib.sha256(repr((request.url.path, asked)).encode()).hexdigest()
    return f"refused-{digest[:16]}"


def _wants_events(request: Request) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "")


def last_event_id_of(request: Request) -> str:
    """Return the id of the last event that the client received; empty for a new client."""
    query = request.query_params
    header = request.headers.get("last-event-id")
    text = header or query.get("last_event_id") or query.get("lastEventId", "")
    return text.strip(OPTIONAL_WHITESPACE)
