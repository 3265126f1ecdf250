"""Blocks: what dialects make of events, before ids and framing."""

from typing import NamedTuple


class Block(NamedTuple):
    """One event of a stream.

    Attributes:
        name: its SSE name; empty for a plain message.
        data: JSON.
    """

    name: str
    data: bytes
