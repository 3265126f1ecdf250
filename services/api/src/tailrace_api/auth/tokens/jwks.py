"""The issuer's keys: a JSON Web Key Set (RFC 7517), fetched over HTTP, cached and refreshed.

Issuers rotate keys, so a token with an unknown key id triggers a fetch. All waiting requests share
one fetch, and a flood of invented key ids causes at most one per cooldown. While the issuer is
unreachable, the cached keys stay valid.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import jwt
import structlog

from tailrace_api.auth.errors import KeysUnavailableError, UnauthorizedError
from tailrace_api.auth.tokens.keys import prepared

_MAX_SET_BYTES: Final = 256 * 1024
_MAX_KEYS: Final = 100
_TIMEOUT_S: Final = 5.0
_SECRET_MEMBERS: Final = frozenset({"d", "k"})

_log = structlog.get_logger("tailrace.api.auth")

Fetch = Callable[[], Awaitable[bytes]]


class KeySet:
    """The keys of an issuer for one algorithm.

    Args:
        fetch: Returns the serialized key set.
        algorithm: The only algorithm in use; keys and tokens cannot change it.
        refresh: The age in seconds at which the set is fetched again in the background.
        cooldown: The minimum time in seconds between the starts of two fetches.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        fetch: Fetch,
        algorithm: str,
        *,
        refresh: float,
        cooldown: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fetches = 0
        self._fetch = fetch
        self._algorithm = algorithm
        self._refresh = refresh
        self._cooldown = cooldown
        self._clock = clock
        self._keys: dict[str | None, Any] = {}
        self._fetched_at: float | None = None
        self._started_at: float | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Fetch the set for the first time. An unreachable issuer does not prevent the start."""
        await self._fetch_and_wait()

    async def key(self, key_id: str | None) -> Any:
        """Return the key with an id; without an id, the only key of the set.

        Raises:
            UnauthorizedError: The issuer has no such key.
            KeysUnavailableError: The issuer does not respond, so the key is unknown.
        """
        if self._fetched_at is None or self._clock() - self._fetched_at >= self._refresh:
            self._start_fetch()
        found = self._find(key_id)
        if found is None:
            await self._fetch_and_wait()
            found = self._find(key_id)
        if found is not None:
            return found
        if self._has_failed or self._fetched_at is None:
            raise KeysUnavailableError("the keys of the token issuer cannot be fetched")
        raise UnauthorizedError(
            "the token's key id (kid) is not among the issuer's keys"
            if key_id is not None
            else "the token has no key id (kid), and the issuer has several keys"
        )

    def _find(self, key_id: str | None) -> Any:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _fetch_and_wait(self) -> None:
        self._start_fetch()
        if self._fetching is not None:
            # A cancelled request must not cancel the fetch that other requests wait for.
            await asyncio.shield(self._fetching)

    def _start_fetch(self) -> None:
        now = self._clock()
        if self._fetching is not None:
            return
        if self._started_at is not None and now - self._started_at < self._cooldown:
            return
        self._started_at = now
        self._fetching = asyncio.create_task(self._load())

    async def _load(self) -> None:
        self.fetches += 1
        try:
            keys = _usable(await self._fetch(), self._algorithm)
        except (httpx.HTTPError, OSError, ValueError) as error:
            self._has_failed = True
            _log.warning("the issuer's keys cannot be fetched", error=str(error) or repr(error))
        else:
            if not keys:
                _log.warning("key set: no usable key", algorithm=self._algorithm)
            self._keys, self._fetched_at, self._has_failed = keys, self._clock(), False
        finally:
            self._fetching = None


def fetcher(client: httpx.AsyncClient, url: str) -> Fetch:
    """Return a function that fetches a key set within limits of time and size.

    The function raises ``httpx.HTTPError``, ``OSError`` or ``ValueError``.
    """

    async def fetch() -> bytes:
        body = bytearray()
        async with (
            asyncio.timeout(_TIMEOUT_S),
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            # A redirect could lead to any host, and from https to http.
            if answer.status_code != 200:
                raise ValueError(f"the issuer responds with status {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MAX_SET_BYTES:
                    raise ValueError(f"the key set is larger than {_MAX_SET_BYTES} bytes")
        return bytes(body)

    return fetch


def _usable(body: bytes, algorithm: str) -> dict[str | None, Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("the key set is nested too deeply") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
        raise ValueError(f"the key set has no list of at most {_MAX_KEYS} keys")
    usable: dict[str | None, Any] = {}
    for data in keys:
        key = _key(data, algorithm)
        if key is not None:
            key_id = data.get("kid")
            usable.setdefault(key_id if isinstance(key_id, str) else None, key)
    return usable


def _key(data: Any, algorithm: str) -> Any:
    """Return a key if it is public and may verify signatures with this algorithm."""
    if (
        not isinstance(data, dict)
        or _SECRET_MEMBERS & data.keys()
        or data.get("use", "sig") != "sig"
        or data.get("alg", algorithm) != algorithm
        or data.get("key_ops", ["verify"]) != ["verify"]
    ):
        return None
    try:
        return prepared(algorithm, jwt.PyJWK(data, algorithm).key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
