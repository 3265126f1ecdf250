"""The status of an execution in the headers of its commits.

Every commit names its workflow. The last commit of a batch also has the status of the execution:
``<status> <waits> <digest>``, where ``waits`` is the number of steps that wait for a signal, and
the digest identifies these steps (omitted if there are none). So a snapshot of all live executions
reads one commit of each, independent of the length of their logs.

The digest is the exclusive or of one hash per wait. A reader that has a list of waits from an
index compares digests to check that the list belongs to this commit.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

WORKFLOW: Final = "Tailrace-Workflow"
STATE: Final = "Tailrace-State"


class CommitStatus(NamedTuple):
    """The status of an execution after a commit."""

    status: str
    waits: int = 0
    digest: int = 0

    def __str__(self) -> str:
        return f"{self.status} {self.waits} {self.digest:x}" if self.waits else f"{self.status} 0"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a header; return None if this version does not understand it."""
        match text.split(" "):
            case [status, "0"]:
                return cls(status)
            case [status, waits, digest] if waits.isdecimal() and len(digest) <= _DIGEST_DIGITS:
                try:
                    return cls(status, int(waits), int(digest, 16))
                except ValueError:
                    return None
        return None


_DIGEST_DIGITS: Final = 16


def digest_of_wait(node_id: str, since: str) -> int:
    """Return the digest of one step that waits for a signal since ``since``."""
    # Not a checksum: checksums are linear, so similar sets of waits could collide.
    hashed = hashlib.blake2b(
        f"{node_id} {since}".encode(), digest_size=_DIGEST_DIGITS // 2
    ).digest()
    return int.from_bytes(hashed)


def digest_of_waits(waits: Iterable[tuple[str, str]]) -> int:
    """Return the digest of waits, each a node id and the time since when it waits."""
    digest = 0
    for node_id, since in waits:
        digest ^= digest_of_wait(node_id, since)
    return digest
