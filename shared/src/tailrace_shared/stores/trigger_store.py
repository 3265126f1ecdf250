"""Store external events (triggers) by tenant and procedure for a day.

They are stored for awaits that begin later and have a lookback, and for awaits that begin at the
same moment.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.errors import TriggerTooLargeError, UnavailableError
from tailrace_shared.execution.events import MAX_VALUE_BYTES
from tailrace_shared.ids import check_id
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.jetstream import JetStream, StoredMessage
from tailrace_shared.nats.topology import TRIGGERS
from tailrace_shared.subjects import Subjects, check_procedure

_MESSAGE_ID: Final = "Nats-Msg-Id"
_SENSITIVE: Final = "Tailrace-Sensitive"
_MAX_HEADER_CHARS: Final = 4096
_PAGE_MESSAGES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024


class Trigger(NamedTuple):
    """A stored trigger.

    Attributes:
        sequence: its stream sequence.
        procedure: the name of the event.
        data: its data.
        time: when the stream's leader stored it, in seconds since the epoch.
        sensitive: JSON Pointers to the places in the data to mask.
    """

    sequence: int
    procedure: str
    data: Any
    time: float
    sensitive: Sequence[str] = ()


class TriggerStore:
    """Stores triggers and reads those of one procedure."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(TRIGGERS)

    async def publish(
        self,
        tenant: str,
        procedure: str,
        data: Any,
        key: str | None = None,
        sensitive: Sequence[str] = (),
    ) -> Trigger:
        """Store a trigger.

        Args:
            tenant: the tenant of the trigger.
            procedure: the name of the event.
            data: its data, at most 256 KiB of JSON.
            key: an idempotency key, valid for ten minutes: a repetition returns the first trigger.
            sensitive: JSON Pointers to the places in the data to mask.

        Raises:
            InvalidIdError: the procedure's name is invalid.
            TriggerTooLargeError: the data is too large.
            UnavailableError: NATS did not answer; the trigger may or may not be stored.
        """
        check_procedure(procedure)
        payload = msgspec.json.encode(data)
        if len(payload) > MAX_VALUE_BYTES:
            raise TriggerTooLargeError(
                f"the trigger's data are {len(payload)} bytes of JSON; "
                f"the limit is {MAX_VALUE_BYTES}"
            )
        headers = {} if key is None else {_MESSAGE_ID: _message_id(tenant, procedure, key)}
        if sensitive:
            headers[_SENSITIVE] = _header_of(sensitive)
        subject = self._subjects.trigger(tenant, procedure)
        sequence = await self._jetstream.publish(subject, payload, headers)
        # Read back: only the leader's clock orders the trigger and an await.
        message = await self._jetstream.get_newest(self._stream, {"seq": sequence})
        if message is None:
            raise UnavailableError(f"the trigger of {procedure} has expired already")
        return _trigger(message, procedure)

    async def get(self, tenant: str, sequence: int) -> Trigger | None:
        """Return a trigger of a tenant, or None if it has expired.

        Raises:
            UnavailableError: NATS did not answer.
        """
        request = {"seq": sequence}
        message = await self._jetstream.get_newest(self._stream, request, at_least=sequence)
        procedure = (
            None if message is None else self._subjects.procedure_of(message.subject, tenant)
        )
        if message is None or procedure is None:
            return None
        return _trigger(message, procedure)

    async def since(self, tenant: str, procedure: str, after: float) -> AsyncIterator[Trigger]:
        """Read the triggers of one procedure after a time (Unix seconds, by the clock of NATS).

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """
        subject = self._subjects.trigger(tenant, procedure)
        newest = await self._jetstream.get_newest(self._stream, {"last_by_subj": subject})
        if newest is None or newest.time <= after:
            return
        async for message in self._up_to(newest.sequence, subject, after):
            if message.time > after:
                yield _trigger(message, procedure)

    async def _up_to(self, last: int, subject: str, after: float) -> AsyncIterator[StoredMessage]:
        start: dict[str, Any] = {"start_time": _rfc3339(after)}

        async def read() -> list[StoredMessage]:
            request = {"batch": _PAGE_MESSAGES, "max_bytes": _PAGE_BYTES, "next_by_subj": subject}
            page, _pending = await self._jetstream.batch(self._stream, request | start)
            return page

        while True:
            page = await until_caught_up(read, bool, "triggers")
            for message in page:
                yield message
            if page[-1].sequence >= last:
                return
            start = {"seq": page[-1].sequence + 1}


def _trigger(message: StoredMessage, procedure: str) -> Trigger:
    marks = _marks_in(message.headers.get(_SENSITIVE))
    data = msgspec.json.decode(message.data)
    return Trigger(message.sequence, procedure, data, message.time, marks)


def _header_of(sensitive: Sequence[str]) -> str:
    # A header is ASCII without line breaks; a JSON key may contain anything.
    text = json.dumps(sensitive)
    return text if len(text) <= _MAX_HEADER_CHARS else '[""]'


def _marks_in(header: str | None) -> Sequence[str]:
    return () if header is None else msgspec.json.decode(header, type=list[str])


def _message_id(tenant: str, procedure: str, key: str) -> str:
    # Message ids are unique in the stream, keys only within a tenant.
    own = f"{check_id(tenant, 'tenant')}\0{procedure}\0{key}"
    return hashlib.sha256(own.encode()).hexdigest()


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, 0.0), UTC).isoformat().replace("+00:00", "Z")
