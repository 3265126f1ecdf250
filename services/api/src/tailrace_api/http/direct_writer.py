"""The outlet that is a transport's protocol: nothing between the hub and the socket."""

import asyncio
import socket
from typing import Any, Final, NamedTuple

from tailrace_api.fanout.clients.client_writer import Subscriber
from tailrace_api.sse.chunk import LAST_CHUNK

# Linux only.
_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)


class Writing(NamedTuple):
    """How streams are written.

    Attributes:
        direct: whether to the transport, where the server allows it, or by ASGI.
        send_buffer: bytes that the kernel holds for a client.
        timeout: seconds after which a client that acknowledges nothing is gone. A host that lost
            power or its network says no good-bye; what was sent to it last tells.
    """

    direct: bool
    send_buffer: int
    timeout: float

    def apply(self, transport: asyncio.WriteTransport) -> None:
        """Tell the kernel, and have the transport say at once when the kernel takes no more."""
        transport.set_write_buffer_limits(high=0)
        channel = transport.get_extra_info("socket")
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        if _USER_TIMEOUT is not None and channel.family != socket.AF_UNIX:
            channel.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(self.timeout * 1000))


class DirectOutlet(asyncio.Protocol):
    """Writes to a transport, whose protocol it is.

    Args:
        transport: the client's.
        connections: where the server counts its connections.

    Attributes:
        subscriber: who writes; None until the head of the response is written.
        is_paused: whether the client has yet to take what was written.
    """

    __slots__ = ("_connections", "_transport", "is_paused", "subscriber")

    def __init__(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        self.subscriber: Subscriber | None = None
        self.is_paused = False
        self._transport = transport
        self._connections = connections

    @property
    def backlog(self) -> int:
        """How many bytes were written that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def write(self, wire: bytes) -> None:
        """Write."""
        self._transport.write(wire)

    def end(self, wire: bytes) -> None:
        """Write for the last time, and close when the client has taken it all."""
        self._transport.write(wire + LAST_CHUNK)
        self._transport.close()

    def abort(self) -> None:
        """Cut the client off."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass over what a client says although it was told that nobody will answer."""

    def pause_writing(self) -> None:
        """Learn that the kernel takes no more."""
        self.is_paused = True
        if self.subscriber:
            self.subscriber.paused()

    def resume_writing(self) -> None:
        """Learn that the kernel has taken everything."""
        self.is_paused = False
        if self.subscriber:
            self.subscriber.resumed()

    def connection_lost(self, _error: Exception | None) -> None:
        """Learn that the connection is closed."""
        self._connections.discard(self)
        if self.subscriber:
            self.subscriber.lost()

    def shutdown(self) -> None:
        """Close: the server stops. Streams that end in good order have ended before."""
        self._transport.abort()
