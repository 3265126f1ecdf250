"""Standing: what the headers of a commit say of its execution, for those who do not read its log.

Every commit says whose workflow's it is, and, if it is the last of those that became true together,
how the execution stands after it: ``<status> <waits> <mark>``, where ``waits`` is the number of
steps that wait for a signal and ``mark`` says which (left out if none does). So how all that is
live stands costs one commit for each execution, however long their logs are.

A mark is the exclusive or of one hash for each wait. Whoever has a list of waits from
elsewhere sees by it whether the list is the one that the log had then.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

WORKFLOW: Final = "Tailrace-Workflow"
STATE: Final = "Tailrace-State"


class CommitStatus(NamedTuple):
    """How an execution stands.

    Attributes:
        status: its status.
        waits: how many of its steps wait for a signal.
        digest: which.
    """

    status: str
    waits: int = 0
    digest: int = 0

    def __str__(self) -> str:
        return f"{self.status} {self.waits} {self.digest:x}" if self.waits else f"{self.status} 0"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what a header says; None if it says nothing that this version understands."""
        match text.split(" "):
            case [status, "0"]:
                return cls(status)
            case [status, waits, mark] if waits.isdecimal() and len(mark) <= _MARK_LENGTH:
                try:
                    return cls(status, int(waits), int(mark, 16))
                except ValueError:
                    return None
        return None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self | None:
        """Return what a commit's headers say, if they do."""
        return cls.parse(headers.get(STATE, ""))


_MARK_LENGTH: Final = 16


def digest_of_wait(node_id: str, since: str) -> int:
    """Return the mark of a step that waits for a signal since then."""
    # Not a checksum: those are linear, so that some sets of waits that are alike would be the same.
    digest = hashlib.blake2b(f"{node_id} {since}".encode(), digest_size=_MARK_LENGTH // 2).digest()
    return int.from_bytes(digest)


def digest_of_waits(waits: Iterable[tuple[str, str]]) -> int:
    """Return the mark of all steps that wait, each with since when."""
    mark = 0
    for node_id, since in waits:
        mark ^= digest_of_wait(node_id, since)
    return mark
