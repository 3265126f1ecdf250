"""Sign and verify URL parameters that open one stream for a short time.

A native EventSource cannot send headers, and a token in a URL ends up in browser histories and
proxy logs. A leaked ticket does little harm: it is bound to a path, a query, a subject, an
organization and one scope, and it expires soon. All replicas share the signing key, so each of them
accepts it.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_shared.redact.credentials import TICKET_PREFIX

MAX_TICKET_CHARS: Final = 16 * 1024

# A reconnecting client changes these; the resume position grants no access.
_UNBOUND_PARAMETERS: Final = frozenset({"last_event_id", "lastEventId"})
# Separates these signatures from others that may be made with the same key.
_SALT: Final = "tailrace.ticket"


class Stream(NamedTuple):
    """The stream that a ticket is bound to.

    Attributes:
        path: The decoded path.
        query: The query string without the resume position.
    """

    path: str
    query: str

    @classmethod
    def of(cls, path: str, query: str) -> "Stream":
        pairs = parse_qsl(query, keep_blank_values=True)
        bound = [pair for pair in pairs if pair[0] not in _UNBOUND_PARAMETERS]
        return cls(path, urlencode(bound))


class Ticket(NamedTuple):
    """An issued ticket.

    Attributes:
        expires_at: When it expires, in seconds since the epoch.
    """

    text: str
    expires_at: float


class _Content(msgspec.Struct, array_like=True, frozen=True):
    path: str
    query: str
    subject: str
    organization: str
    scope: str | None
    expires_at: float
    token_expires_at: float | None


class Tickets:
    """Issues and verifies tickets.

    Args:
        key: The signing key, shared by all replicas.
        lifetime: How long a ticket is valid, in seconds.
        clock: Returns seconds since the epoch.
    """

    def __init__(self, key: bytes, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self._lifetime = lifetime
        self._clock = clock
        # Not URLSafeSerializer: it compresses, and a compressed ticket begins with a dot, so
        # redaction would not recognize it in logs.
        self._signer = Signer(key, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)
        self._decoder = msgspec.json.Decoder(_Content)

    def issue(
        self, principal: Principal, organization: str, scope: str | None, stream: Stream
    ) -> Ticket:
        """Return a ticket for a stream that the principal may read.

        It expires no later than the principal's token.
        """
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
        signed = self._signer.sign(base64_encode(msgspec.json.encode(content)))
        return Ticket(f"{TICKET_PREFIX}{signed.decode()}", expires_at)

    def principal(self, ticket: str, stream: Stream) -> Principal:
        """Return the principal of a ticket, restricted to the ticket's organization and scope.

        Raises:
            UnauthorizedError: The signature is not valid, the ticket has expired, or it belongs to
                another stream.
        """
        content = self._content(ticket)
        if content.expires_at <= self._clock():
            raise UnauthorizedError("the ticket has expired; request another")
        if (content.path, content.query) != stream:
            raise UnauthorizedError("the ticket is for another stream")
        return Principal(
            content.subject,
            frozenset({content.organization}),
            frozenset() if content.scope is None else frozenset({content.scope}),
            content.token_expires_at,
        )

    def _content(self, ticket: str) -> _Content:
        # The length is checked first, because verification costs as much as the ticket is long.
        if len(ticket) <= MAX_TICKET_CHARS and ticket.startswith(TICKET_PREFIX):
            try:
                body = base64_decode(self._signer.unsign(ticket.removeprefix(TICKET_PREFIX)))
                return self._decoder.decode(body)
            except (BadData, UnicodeError):
                pass  # not ASCII, or not signed with our key
        raise UnauthorizedError("the ticket is not valid")
