"""The response of a stream; all bytes of streams leave the process here.

If the server allows it, the response takes the connection over and returns when the stream is live.
Otherwise it writes by ASGI until the stream ends. A `BaseHTTPMiddleware` around it would keep it
open at shutdown, and a compressing middleware would buffer its bytes.
"""

import time
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace_api.auth.principal import principal_of
from tailrace_api.dialects.encoding import refused, with_last_id
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.opening_position import OpeningPosition
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import DirectWriter, WriterSettings
from tailrace_api.http.plain_writer import PlainWriter
from tailrace_api.http.protocol import protocol_of
from tailrace_api.sse import frame
from tailrace_api.web.request_turns import end_turn
from tailrace_shared.position import StreamPosition

STREAM_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    # With `close`, the end of the connection would end the body: a client could not tell whether it
    # was cut.
    "connection": "keep-alive",
    # nginx would otherwise buffer events.
    "x-accel-buffering": "no",
}

REQUEST_BEGAN: Final = "tailrace.began"
"""Where the scope of a request holds when it began, by ``time.perf_counter``."""

_SETTINGS: Final = {
    "full": "TAILRACE_MAX_STREAMS",
    "tenant_full": "TAILRACE_MAX_TENANT_STREAMS",
    "topics_full": "TAILRACE_MAX_TOPIC_BYTES",
    "tenant_topics_full": "TAILRACE_MAX_TENANT_TOPIC_BYTES",
}
"""The settings that are the reasons of refusals."""


class EventStream(Response):
    """Streams a view to a client, until the token of the request expires."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, view: View, start: Start, settings: WriterSettings) -> None:
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._view = view
        self._start = start
        self._settings = settings
        self._began: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the stream is live on its own, or until either side ends it."""
        if scope["http_version"] == "1.0":
            # There the end of the connection is the end of the body.
            del self.headers["connection"]
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(head)
            await send({"type": "http.response.body", "body": b""})
            return
        # What follows takes as long as the client does, and has limits of its own.
        end_turn(scope)
        # Read here, so that no route can omit it.
        until = principal_of(HTTPConnection(scope)).expires_at
        self._began = scope.get(REQUEST_BEGAN)
        protocol = protocol_of(scope)
        if protocol and not protocol.transport.is_closing():
            self._settings.apply(protocol.transport)
        if (
            protocol
            and self._settings.direct
            and (direct := protocol.take_over(scope, self._head(scope)))
        ):
            await self._stream(direct, until)
        else:
            await send(head)
            abort = protocol.transport.abort if protocol else _cannot_abort
            plain = PlainWriter(receive, send, abort)
            await plain.run(lambda: self._stream(plain, until))

    def _head(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        # Middleware adds these in `send`, which a response that takes the connection over skips.
        added: list[tuple[bytes, bytes]] = scope.get("state", {}).get("response_headers", [])
        return [*self.raw_headers, *added]

    async def _stream(self, writer: DirectWriter | PlainWriter, until: float | None) -> None:
        opening = self._hub.connect(self._view, self._start, writer, until)
        writer.connection = opening.connection
        if self._began is not None:
            # The opening begins with the first byte.
            seconds = time.perf_counter() - self._began
            self._hub.counts.first_byte[bool(self._start.source)].observe(seconds)
        try:
            await opening.run()
            if self._began is not None and not opening.connection.is_lost:
                self._hub.note_opened(opening.connection, time.perf_counter() - self._began)
        except BaseException:
            # A bug, or the server cancelled the request: nothing else would end this stream.
            writer.abort()
            raise


def _cannot_abort() -> None:
    """Do nothing: the server offers no way to abort a connection."""


def whole_stream(*blocks: bytes) -> Response:
    """Return a stream that consists of the given blocks."""
    return Response(b"".join(blocks), headers=STREAM_HEADERS)


def come_back_later(reason: str, milliseconds: int, last_event_id: str = "") -> Response:
    """Return a stream that refuses the client for now, and sets its reconnect delay.

    An EventSource that receives 503 never reconnects; one whose 200 response ends does.

    Args:
        last_event_id: the id that the client sent. It is sent back, because some clients
            (httpx-sse) begin each connection without one.
    """
    is_position = StreamPosition.parse(last_event_id) or OpeningPosition.parse(last_event_id)
    event_id = last_event_id if is_position else ""
    setting = _SETTINGS.get(reason)
    detail = f"the limit {setting} is reached" if setting else ""
    block = refused(reason, milliseconds, detail)
    body = frame.retry(milliseconds) + with_last_id([block], event_id)
    # The connection is closed as well, so a refused client holds no resources.
    return Response(body, headers={**STREAM_HEADERS, "connection": "close"})
