"""StreamPosition: where a reader stands in the event log, and its text form, the SSE id.

An SSE id is ``<epoch>-<sequence>-<index>``: the creation time of the stream in hexadecimal
milliseconds (so that a recreated stream is noticed), the stream sequence of the commit, and the
index of the event in that commit. Ids are compared as positions, never as strings.
"""

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"([0-9a-f]{1,16})-(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, order=True)
class StreamPosition:
    """The place of one event in the log of one stream epoch."""

    epoch: str
    sequence: int
    index: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}-{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an SSE id; None if ``text`` is not one.

        A client may send anything as Last-Event-ID, so a malformed id is data, not an error.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        epoch, sequence, index = match.groups()
        return cls(epoch, int(sequence), int(index))
