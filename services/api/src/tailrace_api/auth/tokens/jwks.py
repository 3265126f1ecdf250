"""The issuer's keys: a JSON Web Key Set (RFC 7517), fetched by HTTP, kept, and rotated.

A token that names an unknown key makes us ask the issuer, because keys are rotated; but one fetch
serves all who wait for it, and a flood of invented names causes no more than one per cooldown.
While the issuer is away the keys that it had last go on to count.
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

_LARGEST_SET: Final = 256 * 1024
_MOST_KEYS: Final = 100
_TIMEOUT: Final = 5.0
_SECRET_MEMBERS: Final = frozenset({"d", "k"})

_log = structlog.get_logger("tailrace.api.auth")

Fetch = Callable[[], Awaitable[bytes]]


class KeySet:
    """The keys of an issuer that fit one algorithm.

    Args:
        fetch: reads the set.
        algorithm: the only one that is used, whatever a key or a token says.
        refresh: age in seconds at which the set is fetched anew, beside the work.
        cooldown: least time in seconds between the begin of two fetches.
        clock: in seconds.

    Attributes:
        fetches: how often the issuer was asked.
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
        self._asked_at: float | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Fetch the set for the first time. An issuer that is away stops no start."""
        await self._ask()

    async def key(self, key_id: str | None) -> Any:
        """Return the key that a token names; without a name, the only one that there is.

        Raises:
            UnauthorizedError: the issuer has no such key.
            KeysUnavailableError: nobody can tell, because the issuer does not answer.
        """
        if self._fetched_at is None or self._clock() - self._fetched_at >= self._refresh:
            self._begin()
        found = self._find(key_id)
        if found is None:
            await self._ask()
            found = self._find(key_id)
        if found is not None:
            return found
        if self._has_failed or self._fetched_at is None:
            raise KeysUnavailableError("the keys of the tokens' issuer cannot be fetched")
        raise UnauthorizedError(
            "the token names no key that its issuer publishes"
            if key_id is not None
            else "the token does not say (kid) with which of its issuer's keys it is signed"
        )

    def _find(self, key_id: str | None) -> Any:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _ask(self) -> None:
        self._begin()
        if self._fetching is not None:
            # Whoever gives up waiting must not take the answer away from the others.
            await asyncio.shield(self._fetching)

    def _begin(self) -> None:
        now = self._clock()
        if self._fetching is not None:
            return
        if self._asked_at is not None and now - self._asked_at < self._cooldown:
            return
        self._asked_at = now
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
                _log.warning("the issuer publishes no key", algorithm=self._algorithm)
            self._keys, self._fetched_at, self._has_failed = keys, self._clock(), False
        finally:
            self._fetching = None


def fetcher(client: httpx.AsyncClient, url: str) -> Fetch:
    """Return what fetches a key set, within limits of time and size.

    What it returns raises ``httpx.HTTPError``, ``OSError`` or ``ValueError``.
    """

    async def fetch() -> bytes:
        body = bytearray()
        async with (
            asyncio.timeout(_TIMEOUT),
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            # A redirect could lead anywhere, and past the rule that it be https.
            if answer.status_code != 200:
                raise ValueError(f"the issuer answers {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LARGEST_SET:
                    raise ValueError(f"the key set has more than {_LARGEST_SET} bytes")
        return bytes(body)

    return fetch


def _usable(body: bytes, algorithm: str) -> dict[str | None, Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("the key set is nested too deep") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise ValueError(f"the key set has no list of at most {_MOST_KEYS} keys")
    usable: dict[str | None, Any] = {}
    for data in keys:
        key = _key(data, algorithm)
        if key is not None:
            key_id = data.get("kid")
            usable.setdefault(key_id if isinstance(key_id, str) else None, key)
    return usable


def _key(data: Any, algorithm: str) -> Any:
    """Return a key if it is a public one, meant and fit for verifying by this algorithm."""
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
