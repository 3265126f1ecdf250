"""What a connection writes to, and what it is told in return."""

from typing import Protocol


class ClientWriter(Protocol):
    """The way to one client.

    Whatever is written is whole blocks in whole chunks (see `tailrace_api.sse.chunk`), so writers
    may take turns in any order.

    Attributes:
        is_paused: whether the client has yet to take what was written before.
    """

    is_paused: bool

    @property
    def backlog(self) -> int:
        """How many bytes were written that nobody has taken yet."""

    def write(self, wire: bytes) -> None:
        """Write; not to be called while paused."""

    def end(self, wire: bytes) -> None:
        """Write for the last time, paused or not, and close when the client has taken it all."""

    def abort(self) -> None:
        """Cut the client off, whatever is still to be written."""


class Subscriber(Protocol):
    """Who writes to an outlet."""

    def paused(self) -> None:
        """Learn that the client does not keep up; told during a write."""

    def resumed(self) -> None:
        """Learn that the client has taken everything."""

    def lost(self) -> None:
        """Learn that the way is gone, by whomever; told once."""
