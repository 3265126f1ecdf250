"""The chunked transfer coding (RFC 9112, section 7.1).

Bytes for many clients are framed once. A writer that does not write to the socket removes the
framing.
"""

from collections.abc import Iterator
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """Return a body as one chunk; an empty body stays empty: an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def bodies(wire: bytes) -> Iterator[bytes]:
    """Yield the bodies of consecutive whole chunks."""
    position = 0
    while position < len(wire):
        start = wire.index(b"\r\n", position) + 2
        size = int(wire[position : start - 2], 16)
        yield wire[start : start + size]
        position = start + size + 2
