"""The chunked transfer coding (RFC 9112, section 7.1): what is written on the wire is framed here.

Framing is done once for bytes that go to many, so whoever writes by other means takes it off.
"""

from collections.abc import Iterator
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """Return a body as one chunk; an empty one is no chunk, because that would be the last."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def bodies(wire: bytes) -> Iterator[bytes]:
    """Yield what whole chunks, one after the other, hold."""
    position = 0
    while position < len(wire):
        start = wire.index(b"\r\n", position) + 2
        size = int(wire[position : start - 2], 16)
        yield wire[start : start + size]
        position = start + size + 2
