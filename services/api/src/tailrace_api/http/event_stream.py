"""The response that carries a stream: the one place where a stream's bytes leave.

It takes the connection over if the server lets it, and returns when the stream is live; else it is
plain ASGI until the end. A `BaseHTTPMiddleware` above it would keep it open at shutdown, and a
compressing one would hold its bytes back.
"""

from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace_api.auth.principal import principal_of
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.http.direct_writer import DirectOutlet, Writing
from tailrace_api.http.plain_writer import PlainOutlet
from tailrace_api.http.protocol import protocol_of
from tailrace_api.sse import frame

STREAM_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    # nginx would otherwise collect a buffer full of events first.
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """Streams a view to a client.

    Args:
        hub: whose stream it is.
        view: what is streamed.
        start: from where on.
        writing: how it is written.

    It ends when the token of the request expires.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, view: View, start: Start, writing: Writing) -> None:
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._view = view
        self._start = start
        self._writing = writing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the stream goes on by itself, or until either side ends it."""
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(head)
            await send({"type": "http.response.body", "body": b""})
            return
        # Read here, so that no route can forget it.
        until = principal_of(HTTPConnection(scope)).expires_at
        protocol = protocol_of(scope)
        if protocol and not protocol.transport.is_closing():
            self._writing.apply(protocol.transport)
        if (
            protocol
            and self._writing.direct
            and (direct := protocol.take_over(scope, self._head(scope)))
        ):
            await self._stream(direct, until)
        else:
            await send(head)
            cut = protocol.transport.abort if protocol else _cannot_cut
            plain = PlainOutlet(receive, send, cut)
            await plain.run(lambda: self._stream(plain, until))

    def _head(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        # Who takes the connection over passes by every `send` that would have added these.
        added: list[tuple[bytes, bytes]] = scope.get("state", {}).get("response_headers", [])
        return [*self.raw_headers, *added]

    async def _stream(self, outlet: DirectOutlet | PlainOutlet, until: float | None) -> None:
        connection = self._hub.connect(self._view, self._start, outlet, until)
        outlet.subscriber = connection
        try:
            await connection.run(self._start)
        except BaseException:
            # A bug of ours, or the server cannot wait. Nobody else would end this stream.
            outlet.abort()
            raise


def _cannot_cut() -> None:
    """Leave a client to a server that lets nobody cut it."""


def whole_stream(*blocks: bytes) -> Response:
    """Return a stream of which everything is known already."""
    return Response(b"".join(blocks), headers=STREAM_HEADERS)


def come_back_later(milliseconds: int) -> Response:
    """Return a stream that only says when to try again.

    An EventSource that is answered 503 never comes back; one whose 200 ends does.
    """
    # Nothing is kept for a client that is not served, its connection neither.
    return Response(frame.retry(milliseconds), headers={**STREAM_HEADERS, "connection": "close"})
