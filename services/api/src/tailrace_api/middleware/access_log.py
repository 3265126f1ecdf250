"""Log and count each finished request, and answer uncaught errors.

A stream that takes over its connection is logged once it is open; the hub counts its end. The query
string is never logged, because clients that cannot send headers put tokens there.
"""

import logging
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace_api.http.event_stream import REQUEST_BEGAN
from tailrace_api.http.protocol import status_written
from tailrace_api.metrics import Metrics
from tailrace_api.web.operation import Operation, matching_route
from tailrace_api.web.problems import problem
from tailrace_shared.process.tracing import Tracing, current_trace_id

# Logged at debug level: probes come every few seconds.
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_TRACE_ID: Final = "tailrace.trace_id"
"""Key of the scope: the trace of a request, for when its span has ended."""

_log = structlog.get_logger("tailrace.api.access")


class AccessLog:
    """ASGI middleware that logs and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = scope[REQUEST_BEGAN] = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._serve(scope, receive, note_status)
        except Exception:
            status = status_written(scope) or status
            # A bug in the API. The client gets no details.
            _log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # the response has begun and cannot be completed; the server cuts it
            answer = problem(500, "internal error; see the log of the API")
            await answer(scope, receive, note_status)
        finally:
            # The protocol has written a response itself if a stream took over the connection, or if
            # the request was refused halfway. The client has seen that status, not a later one.
            status = status_written(scope) or status
            seconds = time.perf_counter() - began
            self._metrics.count_request(status)
            route = scope.get("route")
            if isinstance(route, Operation) and not route.is_stream:
                name, trace_id = f"{route.method} {route.path}", scope.get(_TRACE_ID, "")
                self._metrics.observe_request(name, status, seconds, trace_id)
            _log.log(
                logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round(seconds * 1000, 1),
            )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracing = self._tracing
        route = None if tracing is None else matching_route(scope)
        # A span must not live as long as a stream, which has two of its own.
        if tracing is None or not isinstance(route, Operation) or route.is_stream:
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        with tracing.child(f"{route.method} {route.path}", parent=parent):
            scope[_TRACE_ID] = current_trace_id()
            await self._app(scope, receive, send)
