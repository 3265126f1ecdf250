"""The output of a dialect, before it gets an id and framing."""

from typing import NamedTuple


class Block(NamedTuple):
    """One event of a stream.

    Attributes:
        name: its SSE name; empty for a message without a name.
        before: blocks that come right before it. Only this block has an id, so a client that is
            disconnected in between gets all of them again.
    """

    name: str
    data: bytes
    before: tuple["Block", ...] = ()
