"""Hold jobs that failed permanently until an operator replays or deletes them.

A dead letter is stored as it was delivered, byte for byte, with the reason in headers, so it can be
replayed even if its body cannot be decoded.
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
_MAX_ERROR_CHARS: Final = 1_000
_MAX_TRACEBACK_CHARS: Final = 16_000
_PAGE_BYTES: Final = 8 * 1024 * 1024
_DELETE_FAILED: Final = 10057
# What Dramatiq's retries left in a message. A replayed one starts with all its retries.
_RETRY_OPTIONS: Final = ("retries", "traceback", "requeue_timestamp")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter of the stream.

    Attributes:
        subject: the subject that the message came from; a replay publishes it there.
        firing: the id of its firing, if a recurring schedule published it, else empty.
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
        except (ValueError, RecursionError):
            return None
        return fields if isinstance(fields, dict) else None

    @property
    def message_id(self) -> str | None:
        """The message's id, or None if it cannot be decoded."""
        message_id = self.firing or (self.message or {}).get("message_id")
        return message_id if isinstance(message_id, str) else None


def without_traceback(headers: dict[str, str]) -> dict[str, str]:
    """Return a dead letter's headers without the traceback, for a message that is too large."""
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
    """Return the headers of a dead letter: the message's own, and why it failed."""
    firing = firing_id(headers)
    return {
        **_own_headers(headers),
        # All firings of a schedule have the same body. A replayed one keeps its own id.
        **({_FIRING: firing} if firing else {}),
        _QUEUE: queue,
        _SUBJECT: subject,
        _DELIVERIES: str(deliveries),
        _DIED_AT: f"{time.time():.3f}",
        _REASON: reason,
        # A header is one line of ASCII; a traceback is neither.
        _ERROR: _as_header(error)[:_MAX_ERROR_CHARS],
        _TRACEBACK: _as_header(traceback)[-_MAX_TRACEBACK_CHARS:],
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
        """Return up to ``limit`` dead letters after a sequence, oldest first."""
        return (await self.page(queue, limit=limit, after=after))[0]

    async def page(
        self, queue: str | None = None, *, limit: int = 100, after: int = 0
    ) -> tuple[Letters, bool]:
        """Return a page of dead letters as :meth:`list` does, and whether more follow.

        A page of large dead letters may have fewer than ``limit`` although more follow.
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
        message = await self._jetstream.get_newest(self._stream, {"seq": sequence})
        return None if message is None else _dead_letter(message)

    async def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter back on its queue, with all its retries, and delete it."""
        # With this id a replay whose acknowledgement was lost enqueues the message only once.
        headers = {**letter.headers, "Nats-Msg-Id": f"replay-{self._stream}-{letter.sequence}"}
        await self._jetstream.publish(letter.subject, _fresh(letter), headers)
        await self.delete(letter.sequence)

    async def replay_all(self, queue: str | None = None) -> int:
        """Replay all dead letters that are stored now; return their number."""
        replayed, last = 0, 0
        # A message that dies again meanwhile gets a later sequence, and is not replayed again.
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
        """Delete one dead letter. One that does not exist is no error."""
        try:
            await self._jetstream.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence})
        except JetStreamError as error:
            if error.code != _DELETE_FAILED or await self.get(sequence) is not None:
                raise

    async def purge(self, queue: str | None = None) -> int:
        """Delete all dead letters, or those of one queue; return their number."""
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
    kept = {key: value for key, value in options.items() if key not in _RETRY_OPTIONS}
    own_id = {"message_id": letter.firing} if letter.firing else {}
    return msgspec.json.encode({**fields, **own_id, "options": kept})


def _own_headers(headers: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if not key.startswith(_OWN)}


def _as_header(text: str) -> str:
    escaped: str = text.encode("unicode_escape").decode("ascii")
    return escaped


def _from_header(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("unicode_escape", "replace")
