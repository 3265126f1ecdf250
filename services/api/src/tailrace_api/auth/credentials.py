"""Credentials are removed from a request before anything else reads it.

So no handler, log line, problem or traceback can leak them.
"""

from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from starlette.types import Scope

from tailrace_api.auth.errors import UnauthorizedError

_HEADER: Final = b"authorization"
_PARAMETERS: Final = frozenset({"authorization", "access_token", "ticket"})
_SCHEME: Final = "bearer"


class Credentials(NamedTuple):
    """The credentials of a request.

    Attributes:
        parameters: The names (in lower case) and values of query parameters.
    """

    headers: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def token_or_ticket(self) -> tuple[str, str]:
        """Return the token and the ticket, one of which is empty.

        Raises:
            UnauthorizedError: There is no credential, or there are several different ones.
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
            raise UnauthorizedError("the request has several different tokens; send one")
        if not found:
            raise UnauthorizedError(
                "send a token in the header Authorization: Bearer <token>", is_invalid=False
            )
        return found.pop()


def take_credentials(scope: Scope) -> Credentials:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    values = tuple(value.decode("latin-1") for name, value in headers if name == _HEADER)
    if values:
        scope["headers"] = [pair for pair in headers if pair[0] != _HEADER]
    query: bytes = scope["query_string"]
    if not query:
        return Credentials(values)
    parameters: list[tuple[str, str]] = []
    others: list[str] = []
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name).lower()
        if name in _PARAMETERS:
            parameters.append((name, unquote_plus(value)))
        else:
            others.append(part)
    if parameters:
        scope["query_string"] = "&".join(others).encode("latin-1")
    return Credentials(values, tuple(parameters))


def _bearer(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    # Another scheme is meant for a proxy in between, for example one with Basic authentication.
    return token.strip() if scheme.lower() == _SCHEME else ""
