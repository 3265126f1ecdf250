"""The interface between a connection and the way its bytes take to the client."""

from typing import Protocol


class ClientWriter(Protocol):
    """Writes to one client: directly to the transport, or by ASGI.

    All writes are whole blocks in whole chunks (see `tailrace_api.sse.chunk`). The writer calls the
    connection's ``on_paused``, ``on_resumed`` and ``on_lost``.

    Attributes:
        is_paused: whether earlier writes have not been taken by the client yet.
    """

    is_paused: bool

    @property
    def backlog(self) -> int:
        """The number of bytes written but not taken yet."""

    def write(self, wire: bytes) -> None:
        """Write; must not be called while paused."""

    def end(self, wire: bytes, *, reusable: bool) -> None:
        """Write for the last time, even while paused, and close when everything has been taken.

        Args:
            reusable: whether the client may go on to use the TCP connection for other requests.
        """

    def abort(self) -> None:
        """Close at once and discard unsent bytes."""
