"""The end of a connection whose client is still sending.

To close it at once would reset it, and the client would hear of that before it has read why.
"""

import asyncio
from typing import Final

_SECONDS: Final = 2.0
_MOST_BYTES: Final = 4 * 1024 * 1024


class Linger(asyncio.Protocol):
    """Reads and forgets what a client sends, until it has heard that nobody listens.

    Args:
        transport: the client's, to which the last word is written.
        loop: what it runs on.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._bytes = 0
        self._timer = loop.call_later(_SECONDS, transport.close)
        transport.set_protocol(self)
        transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Forget what has come."""
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End: the client has read the answer, or has had its time."""
        self._timer.cancel()
