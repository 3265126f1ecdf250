"""The principal: on whose behalf a request is made."""

from typing import Final, NamedTuple

from starlette.requests import HTTPConnection


class Principal(NamedTuple):
    """Whoever a token speaks for.

    Attributes:
        subject: who; empty where nobody is known (``TAILRACE_AUTH=none``).
        organizations: the tenants that the token holds; None: any.
        scopes: what it allows; None: everything.
        expires_at: until when, in seconds since the epoch; None: for ever.
    """

    subject: str = ""
    organizations: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    expires_at: float | None = None

    def may(self, scope: str) -> bool:
        """Tell whether it has a scope."""
        return self.scopes is None or scope in self.scopes


ANYBODY: Final = Principal()


def principal_of(request: HTTPConnection) -> Principal:
    """Return on whose behalf a request is made."""
    principal: Principal = getattr(request.state, "principal", ANYBODY)
    return principal
