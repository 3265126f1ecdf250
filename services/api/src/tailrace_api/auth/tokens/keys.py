"""Read a fixed key from the settings, either a secret or a public key in PEM form."""

from typing import Any, Final

import jwt
from jwt.algorithms import get_default_algorithms

_MIN_SECRET_BYTES: Final = 32


class UnusableKeyError(ValueError):
    """A key does not fit its algorithm. The message does not repeat the key."""


class FixedKey:
    """A key from the settings, used for all tokens.

    Args:
        algorithm: The only algorithm that the key is used with.
        key: The secret, or the PEM.

    Raises:
        UnusableKeyError: The key does not fit the algorithm, or is too weak.
    """

    def __init__(self, algorithm: str, key: bytes) -> None:
        if algorithm == "HS256" and len(key) < _MIN_SECRET_BYTES:
            raise UnusableKeyError(f"a secret needs {_MIN_SECRET_BYTES} bytes or more")
        try:
            self._key = prepared(algorithm, key)
        except (jwt.PyJWTError, ValueError, TypeError):
            expected = {
                "HS256": "a secret, not a public key or a certificate",
                "RS256": "an RSA public key of 2048 bits or more, as PEM",
                "ES256": "a P-256 public key, as PEM",
                "EdDSA": "an Ed25519 public key, as PEM",
            }[algorithm]
            raise UnusableKeyError(f"{algorithm} needs {expected}") from None

    async def key(self, _key_id: str | None) -> Any:
        """Return the key; a fixed key has no key id."""
        return self._key


def prepared(algorithm: str, key: Any) -> Any:
    """Return a key in the form that PyJWT verifies with.

    Raises:
        ValueError: The key is private.
        jwt.PyJWTError: The key does not fit the algorithm, or is too weak.
    """
    implementation = get_default_algorithms()[algorithm]
    checked = implementation.prepare_key(key)
    # A private key cannot verify, and does not belong on a server that only verifies.
    if algorithm != "HS256" and not hasattr(checked, "verify"):
        raise ValueError("a private key")
    if weakness := implementation.check_key_length(checked):
        raise jwt.InvalidKeyError(weakness)
    return checked
