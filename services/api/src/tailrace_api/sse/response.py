"""The response that carries a stream: the one place where a stream's bytes leave.

It is plain ASGI. A `BaseHTTPMiddleware` above it would keep it open at shutdown, and a
compressing one would hold its bytes back.
"""

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace_api.fanout.connection import Connection
from tailrace_api.sse import frame
from tailrace_api.sse.protocol import transport_of

STREAM_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    # nginx would otherwise collect a buffer full of events first.
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """Streams a connection to its client.

    Args:
        connection: what to stream.
        stall: seconds for which the client may take nothing.
    """

    media_type = "text/event-stream"

    def __init__(self, connection: Connection, stall: float) -> None:
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]
        self._connection = connection
        self._stall = stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until either side ends it."""
        transport = transport_of(scope)
        if transport is not None:
            self._connection.abort = transport.abort
        watcher = asyncio.create_task(self._watch(receive))
        try:
            await self._send_all(scope, send)
        except TimeoutError:
            # Closing would wait for the client to take what it does not take.
            self._connection.abort()
            # Let the server notice, or it would report a response that was never completed.
            await asyncio.sleep(0)
        finally:
            watcher.cancel()
            self._connection.close()

    async def _send_all(self, scope: Scope, send: Send) -> None:
        async def write(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._stall):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            await self._connection.run(write)
        await write(b"", more=False)

    async def _watch(self, receive: Receive) -> None:
        # After a disconnect ASGI's send returns as if all were well; only receive tells.
        while (await receive())["type"] != "http.disconnect":
            pass
        self._connection.end()


def whole_stream(*blocks: bytes) -> Response:
    """Return a stream of which everything is known already."""
    return Response(b"".join(blocks), headers=STREAM_HEADERS)


def come_back_later(milliseconds: int) -> Response:
    """Return a stream that only says when to try again.

    An EventSource that is answered 503 never comes back; one whose 200 ends does.
    """
    return whole_stream(frame.retry(milliseconds))
