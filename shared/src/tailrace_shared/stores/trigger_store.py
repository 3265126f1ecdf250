"""Triggers: events from outside, by tenant and procedure, kept for a day.

They are kept for the awaits that begin after them and ask for a look back, and for those that
begin in the very moment in which one comes.
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
_MOST_HEADER: Final = 4096
_PAGE_MESSAGES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024


class Trigger(NamedTuple):
    """A trigger as it is stored.

    Attributes:
        sequence: its place in the stream.
        procedure: what happened.
        data: what there is to know about it.
        time: when it came, by the clock of NATS, in seconds since the epoch.
        sensitive: the places in the data that nobody is shown, as JSON Pointers.
    """

    sequence: int
    procedure: str
    data: Any
    time: float
    sensitive: Sequence[str] = ()


class TriggerStore:
    """Stores triggers, and reads those of one procedure back."""

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
            tenant: whose.
            procedure: what happened.
            data: what there is to know about it, 256 KiB of JSON at the most.
            key: the same key within ten minutes is the same trigger: the first one is returned.
            sensitive: the places in the data that nobody is shown.

        Raises:
            InvalidIdError: it is no procedure.
            TriggerTooLargeError: there is too much data.
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
        # Read back, because only the leader's clock says which came first, it or an await.
        message = await self._jetstream.get_newest(self._stream, {"seq": sequence})
        if message is None:
            raise UnavailableError(f"the trigger of {procedure} has expired already")
        return _trigger(message, procedure)

    async def since(self, tenant: str, procedure: str, after: float) -> AsyncIterator[Trigger]:
        """Read the triggers of one procedure that came after a time (NATS's, Unix seconds).

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
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
    # A header takes ASCII, and no line breaks; a key may have anything in it.
    text = json.dumps(sensitive)
    return text if len(text) <= _MOST_HEADER else '[""]'


def _marks_in(header: str | None) -> Sequence[str]:
    return () if header is None else msgspec.json.decode(header, type=list[str])


def _message_id(tenant: str, procedure: str, key: str) -> str:
    # Ids are the whole stream's, keys a tenant's own.
    own = f"{check_id(tenant, 'tenant')}\0{procedure}\0{key}"
    return hashlib.sha256(own.encode()).hexdigest()


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, 0.0), UTC).isoformat().replace("+00:00", "Z")
