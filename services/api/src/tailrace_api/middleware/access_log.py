"""The access log: one line for each request when it has ended, and the last line of defence.

A stream that takes its connection over is logged when it is open: its end is counted by the hub.

The query string stays out of it: tokens travel there, for clients that cannot send headers. What is
logged is counted, too.
"""

import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace_api.http.protocol import status_written
from tailrace_api.metrics import Metrics
from tailrace_api.web.problems import problem

# Probes come every few seconds and say nothing about use.
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger("tailrace.api.access")


class AccessLog:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and log how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        except Exception:
            status = status_written(scope) or status
            # A bug of ours. The client learns that, and nothing about us.
            _log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # the server cuts a response that cannot be completed
            answer = problem(500, "something went wrong here; the log of the API says what")
            await answer(scope, receive, note_status)
        finally:
            # A stream that has its connection for itself goes on without us. And of a request that
            # was refused halfway the client has heard that, whatever was answered afterwards.
            status = status_written(scope) or status
            self._metrics.count_request(status)
            _log.log(
                10 if scope["path"] in _QUIET else 20,
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - began) * 1000, 1),
            )
