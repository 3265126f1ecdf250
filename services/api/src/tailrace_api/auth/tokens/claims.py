"""What a token's claims say, once its signature and times are known to be good."""

from collections.abc import Mapping
from typing import Any, Final

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_shared.ids import is_valid_id

_LONGEST_SUBJECT: Final = 256
_MOST_NAMES: Final = 1000


def principal_from(claims: Mapping[str, Any], leeway: float) -> Principal:
    """Return whom verified claims speak for.

    Args:
        claims: with an ``exp`` that is a number.
        leeway: seconds for which the token counts beyond its ``exp``.

    Raises:
        UnauthorizedError: a claim is not what it has to be.
    """
    subject = claims["sub"]
    # It is written to the log of executions and shown in terminals.
    if not (isinstance(subject, str) and subject.isprintable() and _fits(subject)):
        raise UnauthorizedError(
            f"the token's sub is not a text of 1 to {_LONGEST_SUBJECT} printable characters"
        )
    try:
        expires_at = float(int(claims["exp"])) + leeway
    except OverflowError:
        raise UnauthorizedError("the token's exp is not a time") from None
    return Principal(subject, _organizations(claims), _scopes(claims), expires_at)


def _fits(subject: str) -> bool:
    return 0 < len(subject) <= _LONGEST_SUBJECT


def _organizations(claims: Mapping[str, Any]) -> frozenset[str]:
    names = [*_names(claims, "orgs")]
    if claims.get("org") is not None:
        names.append(claims["org"])
    # They become part of subjects, where a dot or a wildcard would reach into other tenants.
    if not all(isinstance(name, str) and is_valid_id(name) for name in names):
        raise UnauthorizedError(
            "the token's org and orgs are ids: 1 to 64 letters, digits, '_' or '-'"
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
    if not isinstance(names, list) or len(names) > _MOST_NAMES:
        raise UnauthorizedError(f"the token's {claim} is not a list of at most {_MOST_NAMES}")
    return names
