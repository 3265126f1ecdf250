"""The position of a client in a stream of several topics that has not opened all of them yet. Pure.

The text is ``<id>~<opened>`` or ``<id>~<opened>.<sequence>.<index>``: the position of the topics
that have been opened, how many of those that must be opened have been, and the last event of the
next one that the client has received.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from tailrace_api.sse import frame
from tailrace_api.sse.chunk import bodies, chunk
from tailrace_shared.position import StreamPosition

_TEXT: Final = re.compile(r"([^~]+)~([0-9]{1,4})(?:\.([0-9]{1,19})\.([0-9]{1,6}))?")
# A line of JSON cannot begin like this, because line ends in it are escaped.
_ID: Final = re.compile(rb"\nid: ([0-9a-f]+-([0-9]+)-([0-9]+))\n\n")


@dataclass(frozen=True, slots=True)
class OpeningPosition:
    """A position in the opening of a stream of several topics.

    Attributes:
        base: the position of the topics that have been opened.
        opened: the number of topics that have been opened in this stream.
        inside: the sequence and the index of the last event received of the next topic; None if
            none has been.
    """

    base: StreamPosition
    opened: int
    inside: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.base}{self._suffix}"

    @property
    def _suffix(self) -> str:
        inside = "" if self.inside is None else f".{self.inside[0]}.{self.inside[1]}"
        return f"~{self.opened}{inside}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a position; return None if ``text`` is not one."""
        match = _TEXT.fullmatch(text)
        base = match and StreamPosition.parse(match[1])
        if match is None or base is None:
            return None
        inside = None if match[3] is None else (int(match[3]), int(match[4]))
        return cls(base, int(match[2]), inside)

    def stamp(self, wire: bytes) -> bytes:
        """Return chunks of events of opened topics, with ids that say how many are opened."""
        return _replace(wire, rb"\nid: \1%b\n\n" % self._suffix.encode())

    def stamp_inside(self, wire: bytes) -> bytes:
        """Return chunks of events of the next topic, with ids that begin with the base."""
        return _replace(wire, b"\nid: %b~%d.\\2.\\3\n\n" % (str(self.base).encode(), self.opened))


def _replace(wire: bytes, text: bytes) -> bytes:
    return b"".join(chunk(_ID.sub(text, body)) for body in bodies(wire))


def with_final_id(wire: bytes, event_id: str) -> bytes:
    """Return chunks of events, the last one with another id; if there is none, only the id."""
    body = b"".join(bodies(wire))
    last = max(body.rfind(b"\nid: "), 0)
    if not last:
        return chunk(frame.position(event_id))
    return chunk(body[:last] + b"\nid: " + event_id.encode() + b"\n\n")
