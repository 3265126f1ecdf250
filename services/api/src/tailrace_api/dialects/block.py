"""The output of a dialect, before it gets an id and framing."""

from typing import NamedTuple


class Block(NamedTuple):
    """One event of a stream.

    Attributes:
        name: its SSE name; empty for a message without a name.
    """

    name: str
    data: bytes
