"""Dead letters: jobs that will not be run again unless somebody says so.

A dead letter is stored as it was delivered, byte for byte, with the reason in headers, so that it
can be replayed even if nobody could decode it.
"""

import time
from typing import Any, Final

import msgspec

from tailrace_shared.errors import JetStreamError
from tailrace_shared.nats.jetstream import JetStream, StoredMessage
from tailrace_shared.nats.jobs import firing_id
from tailrace_shared.nats.topology import DEAD
from tailrace_shared.subjects import Subjects

_REASON: Final = "Dead-Reason"
_ERROR: Final = "Dead-Error"
_TRACEBACK: Final = "Dead-Traceback"
_SUBJECT: Final = "Dead-Subject"
_QUEUE: Final = "Dead-Queue"
_DELIVERIES: Final = "Dead-Deliveries"
_DIED_AT: Final = "Dead-At"
_FIRING: Final = "Dead-Firing"
_OWN: Final = ("Dead-", "Nats-")
_LONGEST_ERROR: Final = 1_000
_LONGEST_TRACEBACK: Final = 16_000
_PAGE_BYTES: Final = 8 * 1024 * 1024
_DELETE_FAILED: Final = 10057
#: What Dramatiq's retries left in a message; a replayed one starts with all its retries.
_USED_UP: Final = ("retries", "traceback", "requeue_timestamp")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as it lies in the stream.

    Attributes:
        sequence: its id.
        subject: where the message came from, and goes back to when it is replayed.
        firing: which firing of a recurring message it was; empty if of none.
        headers: the message's own headers.
        body: the message as it was delivered.
    """

    sequence: int
    queue: str
    reason: str
    error: str
    traceback: str
    deliveries: int
    died_at: float
    subject: str
    firing: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any] | None:
        """The message's fields, or None if it cannot be decoded."""
        try:
            fields = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None
        return fields if isinstance(fields, dict) else None

    @property
    def message_id(self) -> str | None:
        """The message's id, or None if it cannot be told."""
        message_id = self.firing or (self.message or {}).get("message_id")
        return message_id if isinstance(message_id, str) else None


def without_traceback(headers: dict[str, str]) -> dict[str, str]:
    """Return a dead letter's headers, for a message that leaves no room for all of them."""
    return {**headers, _TRACEBACK: ""}


def dead_letter_headers(
    headers: dict[str, str],
    *,
    queue: str,
    subject: str,
    deliveries: int,
    reason: str,
    error: str,
    traceback: str,
) -> dict[str, str]:
    """Return the headers of a dead letter: the message's own, and what happened to it."""
    firing = firing_id(headers)
    return {
        **_own_headers(headers),
        # All firings of a schedule have the same body; replayed, each still has its own id.
        **({_FIRING: firing} if firing else {}),
        _QUEUE: queue,
        _SUBJECT: subject,
        _DELIVERIES: str(deliveries),
        _DIED_AT: f"{time.time():.3f}",
        _REASON: reason,
        # A header is one line of ASCII, a traceback is neither.
        _ERROR: _as_header(error)[:_LONGEST_ERROR],
        _TRACEBACK: _as_header(traceback)[-_LONGEST_TRACEBACK:],
    }


Letters = list[DeadLetter]


class DeadLetters:
    """Reads, replays and purges the dead letters of an installation."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(DEAD)

    async def list(
        self, queue: str | None = None, *, limit: int = 100, after: int = 0
    ) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters, oldest first, from those after a sequence."""
        return (await self.page(queue, limit=limit, after=after))[0]

    async def page(
        self, queue: str | None = None, *, limit: int = 100, after: int = 0
    ) -> tuple[Letters, bool]:
        """Return some dead letters as :meth:`list` does, and whether there are more.

        There may be fewer than ``limit`` and still be more, where they are large.
        """
        request = {
            "batch": limit,
            "max_bytes": _PAGE_BYTES,
            "seq": after + 1,
            "next_by_subj": self._filter(queue),
        }
        page, pending = await self._jetstream.batch(self._stream, request)
        return [_dead_letter(message) for message in page], pending > 0

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return one dead letter, or None if there is no such."""
        message = await self._jetstream.get(self._stream, {"seq": sequence})
        return None if message is None else _dead_letter(message)

    async def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter back on its queue, with all its retries, and delete it here."""
        # The id makes a replay that is repeated because its answer was lost enqueue only once.
        headers = {**letter.headers, "Nats-Msg-Id": f"replay-{self._stream}-{letter.sequence}"}
        await self._jetstream.publish(letter.subject, _fresh(letter), headers)
        await self.delete(letter.sequence)

    async def replay_all(self, queue: str | None = None) -> int:
        """Replay every dead letter that is there now; return how many."""
        replayed, last = 0, 0
        # What dies again while this runs comes back with a later sequence, and stays dead.
        end = await self._last_sequence()
        while page := await self.list(queue, after=last):
            for letter in page:
                if letter.sequence > end:
                    return replayed
                await self.replay(letter)
                replayed += 1
            last = page[-1].sequence
        return replayed

    async def delete(self, sequence: int) -> None:
        """Delete one dead letter for good. One that is gone already is no error."""
        try:
            await self._jetstream.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence})
        except JetStreamError as error:
            if error.code != _DELETE_FAILED or await self.get(sequence) is not None:
                raise

    async def purge(self, queue: str | None = None) -> int:
        """Delete all dead letters, or those of one queue; return how many."""
        answer = await self._jetstream.api(
            f"STREAM.PURGE.{self._stream}", {"filter": self._filter(queue)}
        )
        purged: int = answer["purged"]
        return purged

    async def _last_sequence(self) -> int:
        answer = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        last: int = answer["state"]["last_seq"]
        return last

    def _filter(self, queue: str | None) -> str:
        return f"{self._subjects.prefix}.dead.*" if queue is None else self._subjects.dead(queue)


def _dead_letter(message: StoredMessage) -> DeadLetter:
    headers = message.headers
    return DeadLetter(
        sequence=message.sequence,
        queue=headers.get(_QUEUE, ""),
        reason=headers.get(_REASON, ""),
        error=_from_header(headers.get(_ERROR, "")),
        traceback=_from_header(headers.get(_TRACEBACK, "")),
        deliveries=int(headers.get(_DELIVERIES, "0")),
        died_at=float(headers.get(_DIED_AT, "0")),
        subject=headers.get(_SUBJECT, ""),
        firing=headers.get(_FIRING, ""),
        headers=_own_headers(headers),
        body=message.data,
    )


def _fresh(letter: DeadLetter) -> bytes:
    fields = letter.message
    options = (fields or {}).get("options")
    if fields is None or not isinstance(options, dict):
        return letter.body
    kept = {key: value for key, value in options.items() if key not in _USED_UP}
    own_id = {"message_id": letter.firing} if letter.firing else {}
    return msgspec.json.encode({**fields, **own_id, "options": kept})


def _own_headers(headers: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if not key.startswith(_OWN)}


def _as_header(text: str) -> str:
    escaped: str = text.encode("unicode_escape").decode("ascii")
    return escaped


def _from_header(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("unicode_escape", "replace")
