"""The credentials of a request, and the request without them.

They are taken out before anything else looks at it, so no handler, log line, problem or traceback
can repeat what it never saw.
"""

from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from starlette.types import Scope

from tailrace_api.auth.errors import UnauthorizedError

_HEADER: Final = b"authorization"
_PARAMETERS: Final = frozenset({"authorization", "access_token", "ticket"})
_SCHEME: Final = "bearer"


class Credentials(NamedTuple):
    """What a request carried.

    Attributes:
        headers: the values of ``Authorization`` headers.
        parameters: names (in lower case) and values of parameters.
    """

    headers: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def token_or_ticket(self) -> tuple[str, str]:
        """Return the token or the ticket; the other is empty.

        Raises:
            UnauthorizedError: there is none, or there are several that differ.
        """
        tokens = [_bearer(value) for value in self.headers]
        tickets = []
        for name, value in self.parameters:
            if name == "ticket":
                tickets.append(value)
            else:
                tokens.append(value if name == "access_token" else _bearer(value))
        found = {(token, "") for token in tokens if token}
        found |= {("", ticket) for ticket in tickets if ticket}
        if len(found) > 1:
            raise UnauthorizedError("the request has several tokens; send one")
        if not found:
            raise UnauthorizedError(
                "send a token in the header Authorization, after the word Bearer",
                is_invalid=False,
            )
        return found.pop()


def take_credentials(scope: Scope) -> Credentials:
    """Remove the credentials from a request and return them."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    values = tuple(value.decode("latin-1") for name, value in headers if name == _HEADER)
    if values:
        scope["headers"] = [pair for pair in headers if pair[0] != _HEADER]
    query: bytes = scope["query_string"]
    if not query:
        return Credentials(values)
    parameters: list[tuple[str, str]] = []
    kept: list[str] = []
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name).lower()
        if name in _PARAMETERS:
            parameters.append((name, unquote_plus(value)))
        else:
            kept.append(part)
    if parameters:
        scope["query_string"] = "&".join(kept).encode("latin-1")
    return Credentials(values, tuple(parameters))


def _bearer(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    # Another scheme is for somebody in between, a proxy that asks for a password for example.
    return token.strip() if scheme.lower() == _SCHEME else ""
