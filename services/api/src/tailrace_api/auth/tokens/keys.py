"""The key that does not change: a secret, or a public key in PEM form."""

from typing import Any, Final

import jwt
from jwt.algorithms import get_default_algorithms

_LEAST_SECRET: Final = 32


class UnusableKeyError(ValueError):
    """A key does not fit its algorithm; the message says why, and nothing of the key."""


class FixedKey:
    """A key from the settings; the key id of a token does not matter to it.

    Args:
        algorithm: the only one that it is used with.
        key: the secret, or the PEM.

    Raises:
        UnusableKeyError: it is not a key for that algorithm, or too weak.
    """

    def __init__(self, algorithm: str, key: bytes) -> None:
        if algorithm == "HS256" and len(key) < _LEAST_SECRET:
            raise UnusableKeyError(f"a secret has {_LEAST_SECRET} bytes at the least")
        try:
            self._key = prepared(algorithm, key)
        except (jwt.PyJWTError, ValueError, TypeError):
            wanted = {
                "HS256": "a secret, and not a public key or a certificate",
                "RS256": "an RSA public key of 2048 bits or more, as PEM",
                "ES256": "a P-256 public key, as PEM",
                "EdDSA": "an Ed25519 public key, as PEM",
            }[algorithm]
            raise UnusableKeyError(f"{algorithm} needs {wanted}") from None

    async def key(self, _key_id: str | None) -> Any:
        """Return the key."""
        return self._key


def prepared(algorithm: str, key: Any) -> Any:
    """Return a key in the form in which PyJWT verifies with it.

    Raises:
        ValueError: it is a private key.
        jwt.PyJWTError: it is no key for this algorithm, or a weak one.
    """
    implementation = get_default_algorithms()[algorithm]
    checked = implementation.prepare_key(key)
    # A private key would verify nothing, and has no business on a server that only verifies.
    if algorithm != "HS256" and not hasattr(checked, "verify"):
        raise ValueError("a private key")
    if weakness := implementation.check_key_length(checked):
        raise jwt.InvalidKeyError(weakness)
    return checked
