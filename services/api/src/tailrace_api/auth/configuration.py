"""What the settings say of authentication, checked before anything is started."""

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
_LARGEST_FILE: Final = 64 * 1024


@contextlib.asynccontextmanager
async def verifier_of(settings: ApiSettings) -> AsyncIterator[Verifier | None]:
    """Return what checks tokens; None where everybody may do everything.

    Raises:
        StartupError: naming the setting that does not go with the others.
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
    """Return the setting that has the key; None without authentication.

    Raises:
        StartupError: there is none, more than one, or one that does not fit.
    """
    given = [name for name in (*_SECRETS, *_PUBLIC) if getattr(settings, name)]
    if settings.auth == "none":
        if given:
            raise StartupError(
                f"{variable(given[0])} is set, but TAILRACE_AUTH=none looks at no token: set "
                "TAILRACE_AUTH=jwt, or leave it out"
            )
        return None
    algorithm = settings.auth_algorithm
    wanted = _SECRETS if algorithm == "HS256" else _PUBLIC
    words = " or ".join(map(variable, wanted))
    if not given:
        raise StartupError(
            f"TAILRACE_AUTH=jwt with TAILRACE_AUTH_ALGORITHM={algorithm} needs {words}"
        )
    for name in given:
        if name not in wanted:
            raise StartupError(
                f"{variable(name)} does not go with TAILRACE_AUTH_ALGORITHM={algorithm}, which "
                f"needs {words}"
            )
    if len(given) > 1:
        raise StartupError(f"set only one of {' and '.join(map(variable, given))}")
    if given == ["auth_jwks_url"]:
        _check_url(settings.auth_jwks_url)
    return given[0]


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
            f"{name} must be https (http only on loopback), or others could send keys of their own"
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
            content = file.read(_LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise StartupError(f"{variable(source)}={path!r}: {reason}") from None
    # Editors, and `echo`, end a file with a line end that nobody means.
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
