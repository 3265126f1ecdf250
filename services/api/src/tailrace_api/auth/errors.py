"""Errors of authentication. No message repeats the contents of a token."""

from tailrace_shared.errors import ServiceError


class UnauthorizedError(ServiceError):
    """A request has no credential, or one that is not accepted (401)."""

    def __init__(self, reason: str, *, is_invalid: bool = True) -> None:
        super().__init__(reason)
        self.is_invalid = is_invalid


class KeysUnavailableError(ServiceError):
    """The issuer's keys could not be fetched, so a token cannot be verified; retry (503)."""
