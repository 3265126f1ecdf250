"""The principal in the claims of a verified token."""

from collections.abc import Mapping
from typing import Any, Final

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_shared.ids import is_valid_id

_MAX_SUBJECT_CHARS: Final = 256
_MAX_NAMES: Final = 1000


def principal_from(claims: Mapping[str, Any], leeway: float) -> Principal:
    """Return the principal that verified claims describe.

    Args:
        claims: The claims, with a numeric ``exp``.
        leeway: How long the token is accepted after its ``exp``, in seconds.

    Raises:
        UnauthorizedError: A claim has the wrong type or form.
    """
    subject = claims["sub"]
    # The subject is recorded in execution logs and shown in terminals.
    if not (isinstance(subject, str) and subject.isprintable() and _fits(subject)):
        raise UnauthorizedError(
            f"the token's sub is not a string of 1 to {_MAX_SUBJECT_CHARS} printable characters"
        )
    try:
        expires_at = float(int(claims["exp"])) + leeway
    except OverflowError:
        raise UnauthorizedError("the token's exp is not a time") from None
    return Principal(subject, _organizations(claims), _scopes(claims), expires_at)


def _fits(subject: str) -> bool:
    return 0 < len(subject) <= _MAX_SUBJECT_CHARS


def _organizations(claims: Mapping[str, Any]) -> frozenset[str]:
    names = [*_names(claims, "orgs")]
    if claims.get("org") is not None:
        names.append(claims["org"])
    # Names become part of NATS subjects: a dot or wildcard would give access to other tenants.
    if not all(isinstance(name, str) and is_valid_id(name) for name in names):
        raise UnauthorizedError(
            "the token's org and orgs must be ids: 1 to 64 letters, digits, '_' or '-'"
        )
    return frozenset(names)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    scope = claims.get("scope")
    names = scope.split() if isinstance(scope, str) else _names(claims, "scope")
    return frozenset(name for name in names if isinstance(name, str))


def _names(claims: Mapping[str, Any], claim: str) -> list[Any]:
    names = claims.get(claim)
    if names is None:
        return []
    if not isinstance(names, list) or len(names) > _MAX_NAMES:
        raise UnauthorizedError(f"the token's {claim} is not a list of at most {_MAX_NAMES}")
    return names
