"""Write streams directly to the transport, with no layer between the hub and the socket."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.sse.chunk import LAST_CHUNK

# Linux only.
_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)


class WriterSettings(NamedTuple):
    """How streams are written.

    Attributes:
        direct: whether to write to the transport, where the server allows it, instead of by ASGI.
        send_buffer: the kernel's send buffer of a connection, in bytes.
        timeout: seconds after which a client that acknowledges nothing is disconnected. A host that
            lost power or its network closes no connection; only unacknowledged data shows it.
    """

    direct: bool
    send_buffer: int
    timeout: float

    def apply(self, transport: asyncio.WriteTransport) -> None:
        """Configure the socket, and pause the transport as soon as the kernel's buffer is full."""
        transport.set_write_buffer_limits(high=0)
        channel = transport.get_extra_info("socket")
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        if _USER_TIMEOUT is not None and channel.family != socket.AF_UNIX:
            channel.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(self.timeout * 1000))


class DirectWriter(asyncio.Protocol):
    """Writes to a transport, and is its protocol.

    Attributes:
        connection: the connection that writes; None until the head of the response is written.

    Args:
        connections: the open connections of the server.
        next_protocol: creates the protocol that serves requests after this stream.
    """

    __slots__ = (
        "_connections",
        "_has_input",
        "_is_ending",
        "_next_protocol",
        "_transport",
        "connection",
        "is_paused",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        connections: set[Any],
        next_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self.connection: ClientConnection | None = None
        self.is_paused = False
        self._transport = transport
        self._connections = connections
        self._next_protocol = next_protocol
        self._is_ending = False
        # Whether the client has sent more than its request; what it sent is not kept.
        self._has_input = False

    @property
    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, wire: bytes) -> None:
        self._transport.write(wire)

    def end(self, wire: bytes, *, reusable: bool) -> None:
        """Write for the last time; then serve further requests, or close the connection."""
        self._transport.write(wire + LAST_CHUNK)
        if not reusable or self._has_input:
            self._transport.close()
        elif self.is_paused:
            self._is_ending = True
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        # A client that has read the end may use the connection at once. If it were closed now, the
        # next request of that client could fail.
        protocol, transport = self._next_protocol(), self._transport
        transport.set_protocol(protocol)
        self._lose()
        protocol.connection_made(transport)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, _data: bytes) -> None:
        """Ignore further input, and close the connection after the stream."""
        self._has_input = True

    def pause_writing(self) -> None:
        self.is_paused = True
        if self.connection:
            self.connection.on_paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._is_ending:
            self._hand_over()
        elif self.connection:
            self.connection.on_resumed()

    def connection_lost(self, error: Exception | None) -> None:
        # The kernel's timeout and that of the connection may expire in either order.
        self._lose(is_stalled=isinstance(error, TimeoutError))

    def _lose(self, *, is_stalled: bool = False) -> None:
        self._connections.discard(self)
        # A cycle would occupy memory until the next full garbage collection, which is rare.
        connection, self.connection = self.connection, None
        if connection:
            connection.on_lost(is_stalled=is_stalled)

    def shutdown(self) -> None:
        """Close, because the server stops. Drained streams have ended before."""
        self._transport.abort()
