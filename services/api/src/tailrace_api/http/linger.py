"""Close a connection whose client is still sending (a lingering close).

Closing it at once would reset the connection, and the client would lose the answer.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

_LINGER_S: Final = 2.0
_MAX_BYTES: Final = 4 * 1024 * 1024


class Linger(asyncio.Protocol):
    """Discards input until the client has read the answer and closed, or for a limited time.

    Args:
        transport: the client's transport; the answer has been written to it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._bytes = 0
        self._timer = loop.call_later(_LINGER_S, transport.close)
        transport.set_protocol(self)
        transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Discard input, up to a limit."""
        self._bytes += len(data)
        if self._bytes > _MAX_BYTES:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._timer.cancel()


class LingeringTransport:
    """A transport that is closed in another way.

    Args:
        transport: the transport that does everything else.
        close: closes it.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
