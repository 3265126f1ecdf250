"""Authentication settings, checked before the API starts."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tailrace_api.auth.tokens.jwks import KeySet, fetcher
from tailrace_api.auth.tokens.keys import FixedKey, UnusableKeyError
from tailrace_api.auth.tokens.verifier import Keys, Verifier
from tailrace_shared.errors import StartupError
from tailrace_shared.settings import ApiSettings, variable

_SECRETS: Final = ("auth_secret", "auth_secret_file")
_PUBLIC: Final = ("auth_public_key", "auth_public_key_file", "auth_jwks_url")
_MAX_FILE_BYTES: Final = 64 * 1024


@contextlib.asynccontextmanager
async def verifier_from(settings: ApiSettings) -> AsyncIterator[Verifier | None]:
    """Return the token verifier; None if authentication is off.

    Raises:
        StartupError: A setting is missing or contradicts another; the message names it.
    """
    source = check(settings)
    if source is None:
        yield None
    elif source == "auth_jwks_url":
        async with _client() as client:
            keys = KeySet(
                fetcher(client, settings.auth_jwks_url),
                settings.auth_algorithm,
                refresh=settings.auth_jwks_refresh,
                cooldown=settings.auth_jwks_cooldown,
            )
            await keys.load()
            yield _verifier(settings, keys)
    else:
        yield _verifier(settings, _fixed(settings, source))


def check(settings: ApiSettings) -> str | None:
    """Return the name of the setting that holds the key; None if authentication is off.

    Raises:
        StartupError: No key is set, more than one is, or it does not fit the algorithm.
    """
    configured = [name for name in (*_SECRETS, *_PUBLIC) if getattr(settings, name)]
    if settings.auth == "none":
        if configured:
            raise StartupError(
                f"{variable(configured[0])} is set, but TAILRACE_AUTH=none checks no tokens: set "
                "TAILRACE_AUTH=jwt, or remove it"
            )
        return None
    algorithm = settings.auth_algorithm
    allowed = _SECRETS if algorithm == "HS256" else _PUBLIC
    words = " or ".join(map(variable, allowed))
    if not configured:
        raise StartupError(
            f"TAILRACE_AUTH=jwt with TAILRACE_AUTH_ALGORITHM={algorithm} needs {words}"
        )
    for name in configured:
        if name not in allowed:
            raise StartupError(
                f"{variable(name)} cannot be used with TAILRACE_AUTH_ALGORITHM={algorithm}, which "
                f"needs {words}"
            )
    if len(configured) > 1:
        raise StartupError(f"set only one of {' and '.join(map(variable, configured))}")
    if configured == ["auth_jwks_url"]:
        _check_url(settings.auth_jwks_url)
    return configured[0]


def _check_url(url: str) -> None:
    name = variable("auth_jwks_url")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise StartupError(f"{name} is not a URL") from None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host or ""))
    if not host or not is_safe:
        raise StartupError(
            f"{name} must use https (http only on loopback): an attacker could replace the keys"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fixed(settings: ApiSettings, source: str) -> FixedKey:
    value: str = getattr(settings, source)
    key = _read(source, value) if source.endswith("_file") else value.encode()
    try:
        return FixedKey(settings.auth_algorithm, key)
    except UnusableKeyError as error:
        raise StartupError(f"{variable(source)}: {error}") from None


def _read(source: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        raise StartupError(f"{variable(source)}={path!r}: {reason}") from None
    # Editors and `echo` add a line end that is not part of the key.
    return content.rstrip(b"\r\n")


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(follow_redirects=False, timeout=5.0)


def _verifier(settings: ApiSettings, keys: Keys) -> Verifier:
    audience = tuple(filter(None, map(str.strip, settings.auth_audience.split(","))))
    return Verifier(
        settings.auth_algorithm,
        keys,
        issuer=settings.auth_issuer,
        audience=audience,
        leeway=settings.auth_leeway,
    )
