"""The principal of a request."""

from typing import Final, NamedTuple

from starlette.requests import HTTPConnection


class Principal(NamedTuple):
    """The caller on whose behalf a request is made.

    Attributes:
        subject: The token's ``sub``; empty without authentication (``TAILRACE_AUTH=none``).
        organizations: The tenants that the token holds; None for all.
        scopes: The scopes of the token; None for all.
        expires_at: When the token expires, in seconds since the epoch; None for never.
    """

    subject: str = ""
    organizations: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    expires_at: float | None = None

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


UNRESTRICTED: Final = Principal()


def principal_of(request: HTTPConnection) -> Principal:
    """Return the principal of a request; an unrestricted one without authentication."""
    principal: Principal = getattr(request.state, "principal", UNRESTRICTED)
    return principal
