"""Tickets: what opens one stream, for a short time, in a URL.

A native EventSource can send no headers, and a token in a URL ends up in histories and in the logs
of proxies. A ticket may, because it is worth little: it names the path, the query, the tenant and
the one scope that it is good for, and is over soon. It is signed with a key that all replicas
share, so whichever of them is asked knows it.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_shared.redact.credentials import TICKET_PREFIX

LONGEST_TICKET: Final = 16 * 1024

# Moved on by a client that comes back; where it goes on says nothing of what it may see.
_NOT_BOUND: Final = frozenset({"last_event_id", "lastEventId"})


class Stream(NamedTuple):
    """A stream that a ticket is for.

    Attributes:
        path: decoded.
        query: its parameters, without the place to go on from.
    """

    path: str
    query: str

    @classmethod
    def of(cls, path: str, query: str) -> "Stream":
        """Return the stream that a path and a query name."""
        pairs = parse_qsl(query, keep_blank_values=True)
        return cls(path, urlencode([pair for pair in pairs if pair[0] not in _NOT_BOUND]))


class Ticket(NamedTuple):
    """A ticket and until when it may be used."""

    text: str
    expires_at: float


class _Content(msgspec.Struct, array_like=True, frozen=True):
    path: str
    query: str
    subject: str
    organization: str
    scope: str | None
    expires_at: float
    until: float | None


class Tickets:
    """Makes and checks tickets.

    Args:
        key: what they are signed with, the same at every replica.
        lifetime: how long they may be used, in seconds.
        clock: in seconds since the epoch.
    """

    def __init__(self, key: bytes, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._lifetime = lifetime
        self._clock = clock
        self._decoder = msgspec.json.Decoder(_Content)

    def issue(
        self, principal: Principal, organization: str, scope: str | None, stream: Stream
    ) -> Ticket:
        """Return a ticket for a stream that the principal may read."""
        expires_at = self._clock() + self._lifetime
        if principal.expires_at is not None:
            expires_at = min(expires_at, principal.expires_at)
        content = _Content(
            stream.path,
            stream.query,
            principal.subject,
            organization,
            scope,
            expires_at,
            principal.expires_at,
        )
        body = msgspec.json.encode(content)
        text = f"{TICKET_PREFIX}{_encode(body)}.{_encode(self._signature(body))}"
        return Ticket(text, expires_at)

    def principal(self, ticket: str, stream: Stream) -> Principal:
        """Return whom a ticket speaks for, which is whoever got it, and for this stream only.

        Raises:
            UnauthorizedError: it is not ours, is over, or is for another stream.
        """
        content = self._content(ticket)
        if content.expires_at <= self._clock():
            raise UnauthorizedError("the ticket has expired; ask for another")
        if (content.path, content.query) != stream:
            raise UnauthorizedError("the ticket is for another stream")
        return Principal(
            content.subject,
            frozenset({content.organization}),
            frozenset() if content.scope is None else frozenset({content.scope}),
            content.until,
        )

    def _content(self, ticket: str) -> _Content:
        if len(ticket) <= LONGEST_TICKET and ticket.startswith(TICKET_PREFIX):
            body, _, signature = ticket.removeprefix(TICKET_PREFIX).partition(".")
            content, signed = _decode(body), _decode(signature)
            if hmac.compare_digest(signed, self._signature(content)):
                return self._decoder.decode(content)
        raise UnauthorizedError("the ticket is not good")

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Return what a text encodes; nothing, which nobody has signed, if it is not Base64."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
