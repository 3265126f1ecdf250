"""The position of an event in the log, and its text form, the SSE id.

An SSE id is ``<epoch>-<sequence>-<index>``: the epoch in the stream's metadata, in hexadecimal
(which detects a stream that was created anew), the stream sequence of the commit, and the index of
the event in that commit. Ids are compared as positions, never as strings.
"""

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"([0-9a-f]{1,16})-(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, order=True)
class StreamPosition:
    """The position of one event in the log of one stream epoch."""

    epoch: str
    sequence: int
    index: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}-{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse an SSE id; return None if ``text`` is not one.

        Clients may send any text as Last-Event-ID, so a malformed id is not an error.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        epoch, sequence, index = match.groups()
        return cls(epoch, int(sequence), int(index))
