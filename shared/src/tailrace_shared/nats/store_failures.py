"""Record publishes and reads of this process that JetStream did not answer.

A disk that is full shows in different ways. A cluster refuses a publish with one of several error
codes. A single server does not answer it, while it answers all other requests, and a stream that
failed to write once stays broken until the server restarts, while other streams work. So each
publish that fails is noted here by the stream that it was for, and ``health`` examines that stream.
So is each read that needs the leader of a stream, which may lack one while other streams work.
"""

import time
import weakref
from typing import Final

from nats.aio.client import Client

INSUFFICIENT_RESOURCES: Final = 10023
STORE_FAILED: Final = 10077

CANNOT_STORE: Final = frozenset(
    {
        10002,  # the account's limits are exceeded
        INSUFFICIENT_RESOURCES,
        10028,  # the server's memory is exhausted
        10039,  # JetStream is off for the account, for example after a write error
        10047,  # the server's storage is exhausted
        10076,  # JetStream is off, for example after a write error
        STORE_FAILED,
    }
)
"""Error codes of a JetStream that cannot store any message now."""


def is_limit(code: int, description: str) -> bool:
    """Return whether a refusal is due to a limit of the stream on the number of messages."""
    # JetStream has one code for every reason not to store a message.
    return code == STORE_FAILED and "exceeded" in description and not is_full(code, description)


def is_full(code: int, description: str) -> bool:
    """Return whether a refusal is due to the size limit of the stream."""
    return code == STORE_FAILED and "maximum bytes" in description


class StoreRecord:
    """The newest results of publishes and reads over one connection.

    Attributes:
        stored_at: when JetStream last confirmed a message, by the monotonic clock.
        doubts: for each stream that may be unable to store, by the first two tokens of its
            subjects, the error of the last publish.
        unread: the streams whose leader may be unable to answer.
    """

    def __init__(self) -> None:
        self.stored_at = 0.0
        self.doubts: dict[str, str] = {}
        self.unread: set[str] = set()

    def note_stored(self) -> None:
        """Record that JetStream confirmed a message."""
        self.stored_at = time.monotonic()

    def note_failure(self, subject: str, error: Exception) -> None:
        """Record that JetStream did not confirm a message."""
        self.doubts[root_of(subject)] = str(error)

    def note_unread(self, stream: str) -> None:
        """Record that the leader of a stream did not answer a read."""
        self.unread.add(stream)


def root_of(subject: str) -> str:
    """Return the part of a subject that identifies its stream."""
    return ".".join(subject.split(".", 2)[:2])


_BY_CLIENT: "weakref.WeakKeyDictionary[Client, StoreRecord]" = weakref.WeakKeyDictionary()


def store_record_of(client: Client) -> StoreRecord:
    """Return the record of a connection: one for all its users."""
    record = _BY_CLIENT.get(client)
    if record is None:
        record = _BY_CLIENT[client] = StoreRecord()
    return record
