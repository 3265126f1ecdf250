"""Tokens: JSON Web Tokens (RFC 7519), checked as RFC 8725 wants it.

The algorithm is the one of the settings. What a token's header says of keys (``jwk``, ``jku``,
``x5u``, ``x5c``) is not looked at; its ``kid`` chooses among the keys that are trusted already.
"""

import base64
import json
from typing import Any, Final, Protocol

import jwt
from jwt.exceptions import InvalidSubjectError

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_api.auth.tokens.claims import principal_from

LONGEST_TOKEN: Final = 16 * 1024

_MALFORMED: Final = "the token is malformed"
_REASONS: Final = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is from another issuer"),
    (InvalidSubjectError, "the token's sub is not a text"),
    (jwt.InvalidSignatureError, "the token's signature is not good"),
)


class Keys(Protocol):
    """Where the key comes from that a token is checked with."""

    async def key(self, key_id: str | None) -> Any:
        """Return the key that a token names."""


class Verifier:
    """Checks tokens.

    Args:
        algorithm: the only one that is accepted.
        keys: what they are checked with.
        issuer: the ``iss`` that they must have; empty: any.
        audience: of which their ``aud`` must name one; empty: any.
        leeway: in seconds, by how much clocks may differ.
    """

    def __init__(
        self,
        algorithm: str,
        keys: Keys,
        *,
        issuer: str = "",
        audience: tuple[str, ...] = (),
        leeway: float = 0.0,
    ) -> None:
        self._algorithm = algorithm
        self._keys = keys
        self._issuer = issuer or None
        self._audience = audience or None
        self._leeway = leeway

    async def principal(self, token: str) -> Principal:
        """Return whom a token speaks for.

        Raises:
            UnauthorizedError: it is not accepted.
            KeysUnavailableError: nobody can tell now.
        """
        header = self._header(token)
        key_id = header.get("kid")
        key = await self._keys.key(key_id if isinstance(key_id, str) else None)
        return principal_from(self._claims(token, key), self._leeway)

    def _header(self, token: str) -> dict[str, Any]:
        # Checked first, because decoding costs as much as there is.
        if len(token) > LONGEST_TOKEN:
            raise UnauthorizedError(f"the token has more than {LONGEST_TOKEN} characters")
        # Read here, because PyJWT would decode all of the token for it, and then once more.
        segment = token.partition(".")[0]
        try:
            header = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
        except (ValueError, RecursionError):
            raise UnauthorizedError(_MALFORMED) from None
        if not isinstance(header, dict):
            raise UnauthorizedError(_MALFORMED)
        # Before a key is looked for, or invented names would make us ask the issuer.
        if header.get("alg") != self._algorithm:
            raise UnauthorizedError(f"the token is not signed by {self._algorithm}")
        return header

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={
                    "require": ["sub", "exp"],
                    "verify_aud": self._audience is not None,
                    "verify_iss": self._issuer is not None,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise UnauthorizedError(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            reasons = (reason for kind, reason in _REASONS if isinstance(error, kind))
            raise UnauthorizedError(next(reasons, _MALFORMED)) from None
