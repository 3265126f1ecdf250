"""While the process stops, responses end their connections.

Clients then leave a connection before the process closes it: a request that is sent at that moment
would fail. A stream that began before is left alone. Its ``Connection: keep-alive`` is how a client
tells the end of the stream from a cut.
"""

from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Draining:
    """ASGI middleware that adds ``Connection: close`` to responses without such a header.

    Args:
        is_draining: whether the process stops; asked when a request begins.
    """

    def __init__(self, app: ASGIApp, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._is_draining = is_draining

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and self._is_draining():
            send = _closing(send)
        return self._app(scope, receive, send)


def _closing(send: Send) -> Send:
    async def close(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("connection", "close")
        await send(message)

    return close
