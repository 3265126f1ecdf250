"""Verification of JSON Web Tokens (RFC 7519) by the rules of RFC 8725.

The settings pin the algorithm. Keys in or linked from a token's header (``jwk``, ``jku``, ``x5u``,
``x5c``) are ignored; ``kid`` only selects among the trusted keys.
"""

import base64
import json
from typing import Any, Final, Protocol

import jwt
from jwt.exceptions import InvalidSubjectError

from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_api.auth.tokens.claims import principal_from

MAX_TOKEN_CHARS: Final = 16 * 1024

_MALFORMED: Final = "the token is malformed"
_REASONS: Final = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is from another issuer"),
    (InvalidSubjectError, "the token's sub is not a string"),
    (jwt.InvalidSignatureError, "the token's signature is not valid"),
)


class Keys(Protocol):
    """A source of keys: a ``FixedKey`` or a ``KeySet``."""

    async def key(self, key_id: str | None) -> Any:
        """Return the key with an id."""


class Verifier:
    """Verifies tokens.

    Args:
        algorithm: The only accepted algorithm.
        issuer: The required ``iss``; empty for any.
        audience: The accepted values of ``aud``; empty for any.
        leeway: The accepted clock difference in seconds.
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
        """Verify a token and return its principal.

        Raises:
            UnauthorizedError: The token is not accepted.
            KeysUnavailableError: The issuer's keys cannot be fetched now.
        """
        header = self._header(token)
        key_id = header.get("kid")
        key = await self._keys.key(key_id if isinstance(key_id, str) else None)
        return principal_from(self._claims(token, key), self._leeway)

    def _header(self, token: str) -> dict[str, Any]:
        # Checked first, because decoding costs as much as the token is long.
        if len(token) > MAX_TOKEN_CHARS:
            raise UnauthorizedError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
        # Not by PyJWT, which would decode the whole token here and again below.
        segment = token.partition(".")[0]
        try:
            header = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
        except (ValueError, RecursionError):
            raise UnauthorizedError(_MALFORMED) from None
        if not isinstance(header, dict):
            raise UnauthorizedError(_MALFORMED)
        # Checked before the key, so that invented key ids cause no fetch from the issuer.
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
