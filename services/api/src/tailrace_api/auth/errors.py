"""Why a request is not let in. No message holds anything that a token says."""

from tailrace_shared.errors import ServiceError


class UnauthorizedError(ServiceError):
    """There is no credential, or one that is not accepted.

    Attributes:
        is_invalid: whether there was one.
    """

    def __init__(self, reason: str, *, is_invalid: bool = True) -> None:
        super().__init__(reason)
        self.is_invalid = is_invalid


class KeysUnavailableError(ServiceError):
    """The issuer's keys could not be fetched, so nobody can tell; the client may try again."""
