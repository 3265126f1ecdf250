"""Key sets of an issuer: fetched, cached, rotated, with a limited fetch rate."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from harness.http.token_issuer import Issuer, bearer, jwk, signed
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from tailrace_api.auth.errors import KeysUnavailableError, UnauthorizedError
from tailrace_api.auth.tokens.jwks import KeySet, fetcher
from tailrace_shared.duration import Duration

LIST = "/api/v1/workflows"


@asynccontextmanager
async def _api(
    nats: NatsServer, issuer: Issuer, algorithm: str = "RS256", cooldown: float = 60, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        api_in_process(
            nats.url,
            auth="jwt",
            auth_algorithm=algorithm,
            auth_jwks_url=issuer.url,
            auth_jwks_cooldown=Duration(cooldown),
            **more,
        ) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        yield http


async def _status(http: httpx.AsyncClient, text: str) -> int:
    return (await http.get(LIST, headers=bearer(text))).status_code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_keys_are_fetched_once_and_selected_by_kid(
    idle_nats: NatsServer, issuer: Issuer, algorithm: str
) -> None:
    """A wrong kid fails like a missing kid among several keys."""
    issuer.keys = [jwk(algorithm, "a"), jwk(algorithm, "b")]
    async with _api(idle_nats, issuer, algorithm) as http:
        assert await _status(http, signed(algorithm, "a")) == 200
        assert await _status(http, signed(algorithm, "b")) == 200
        assert issuer.asked == 1
        assert await _status(http, signed(algorithm, "a", headers={"kid": "b"})) == 401
        assert await _status(http, signed(algorithm, "a", headers={"kid": None})) == 401


async def test_a_token_without_kid_uses_the_only_key(idle_nats: NatsServer, issuer: Issuer) -> None:
    """With one key no kid is needed, even if the key has one."""
    issuer.keys = [jwk("ES256", "only")]
    async with _api(idle_nats, issuer, "ES256") as http:
        assert await _status(http, signed("ES256", "only", headers={"kid": None})) == 200
        assert await _status(http, signed("ES256", "other", headers={"kid": None})) == 401


async def test_a_new_key_is_fetched_with_its_first_token(
    idle_nats: NatsServer, issuer: Issuer
) -> None:
    """Rotation needs no restart, and that fetch also drops the old key."""
    issuer.keys = [jwk("ES256", "old")]
    async with _api(idle_nats, issuer, "ES256", cooldown=0.001) as http:
        assert await _status(http, signed("ES256", "old")) == 200
        issuer.keys = [jwk("ES256", "new")]
        assert await _status(http, signed("ES256", "old")) == 200
        assert await _status(http, signed("ES256", "new")) == 200
        assert await _status(http, signed("ES256", "old")) == 401


class _Clock:
    """A clock that a test sets, and a fetch that counts and can fail."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.now = 0.0
        self.keys = list(keys)
        self.fetched = 0
        self.fails = False

    async def fetch(self) -> bytes:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.fails:
            raise httpx.ConnectError("away")
        return json.dumps({"keys": self.keys}).encode()

    def key_set(self, algorithm: str = "ES256") -> KeySet:
        return KeySet(self.fetch, algorithm, refresh=300, cooldown=15, clock=lambda: self.now)


async def test_a_flood_of_unknown_keys_causes_one_fetch(
    idle_nats: NatsServer, issuer: Issuer
) -> None:
    """Valid tokens are not affected."""
    issuer.keys = [jwk("ES256", "a")]
    async with _api(idle_nats, issuer, "ES256") as http:
        invented = [signed("ES256", "a", headers={"kid": f"../{n}"}) for n in range(40)]
        statuses = await asyncio.gather(*(_status(http, text) for text in invented))
        assert set(statuses) == {401}
        assert await _status(http, signed("ES256", "a")) == 200
        assert issuer.asked == 1


async def test_requests_with_unknown_keys_share_a_fetch() -> None:
    """One fetch for all, and no other before the cooldown is over."""
    clock = _Clock(jwk("ES256", "a"))
    keys = clock.key_set()
    await keys.load()
    clock.now = 20.0
    for _ in range(3):
        answers = await asyncio.gather(
            *(keys.key(f"../{n}") for n in range(40)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {UnauthorizedError}
    assert clock.fetched == 2


async def test_cached_keys_stay_valid_while_the_issuer_is_down() -> None:
    """They are refreshed in the background, limited by the cooldown."""
    clock = _Clock(jwk("ES256", "a"))
    keys = clock.key_set()
    await keys.load()
    clock.fails = True
    for now in range(0, 3600, 1):
        clock.now = float(now)
        assert await keys.key("a")
        await asyncio.sleep(0)
    assert clock.fetched <= 1 + 3300 / 15 + 1
    # The key may exist by now, so the response must not say that it is unknown.
    with pytest.raises(KeysUnavailableError):
        await keys.key("b")
    clock.fails, clock.keys, clock.now = False, [jwk("ES256", "b")], 4000.0
    assert await keys.key("b")
    with pytest.raises(UnauthorizedError):
        await keys.key("a")


async def test_keys_are_refreshed_in_the_background() -> None:
    """The first request after the refresh age uses the cached keys and does not wait."""
    clock = _Clock(jwk("ES256", "a"))
    keys = clock.key_set()
    await keys.load()
    clock.now, clock.keys = 301.0, []
    assert await keys.key("a")
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(UnauthorizedError):
        await keys.key("a")


async def test_an_issuer_that_is_down_does_not_prevent_the_start(
    idle_nats: NatsServer, issuer: Issuer
) -> None:
    """Requests get 503 and streams a retry until the issuer is back."""
    issuer.status = 500
    issuer.keys = [jwk("ES256", "a")]
    text = signed("ES256", "a")
    async with _api(idle_nats, issuer, "ES256", cooldown=0.01) as http:
        answer = await http.get(LIST, headers=bearer(text))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        answer = await http.get("/api/v1/sse/executions/x/stream", params={"access_token": text})
        assert answer.status_code == 200
        assert answer.text.startswith("retry: ")
        assert (await http.get("/healthz")).status_code == 200
        issuer.status = 200
        while await _status(http, text) == 503:  # noqa: ASYNC110 - till the cooldown is over
            await asyncio.sleep(0.01)
        assert await _status(http, text) == 200


@pytest.mark.parametrize(
    "unfit",
    [
        jwk("RS256", "k"),
        jwk("ES256", "k"),
        {"kty": "oct", "k": "AAAA", "kid": "k", "alg": "EdDSA"},
        jwk("EdDSA", "k", use="enc"),
        jwk("EdDSA", "k", alg="HS256"),
        jwk("EdDSA", "k", key_ops=["sign"]),
        jwk("EdDSA", "k", key_ops=7),
        jwk("EdDSA", "k", d="AAAA"),
        jwk("EdDSA", "k", x="AAAA"),
        jwk("EdDSA", "k", crv="Ed448"),
        {"kid": "k"},
        "k",
        None,
    ],
)
async def test_unsuitable_keys_are_ignored(unfit: Any) -> None:
    """Of another type or use, private, or malformed."""
    keys = _Clock(unfit, jwk("EdDSA", "good")).key_set("EdDSA")
    assert await keys.key("good")
    with pytest.raises(UnauthorizedError):
        await keys.key("k")


async def test_an_invalid_key_set_is_rejected(issuer: Issuer) -> None:
    """Too large, too many keys, too deep, not JSON, not a key set, or redirected."""
    async with httpx.AsyncClient(timeout=60) as client:
        fetch = fetcher(client, issuer.url)
        for body in (
            b"x" * 300_000,
            b'{"keys": [' + b",".join([b"{}"] * 101) + b"]}",
            b"[" * 200_000,
            b"{}",
            b"[]",
            b"not JSON",
            b"\xff\xfe",
        ):
            issuer.body = body
            with pytest.raises(KeysUnavailableError):
                await KeySet(fetch, "RS256", refresh=1, cooldown=1).key("a")
        issuer.body, issuer.keys = None, [jwk("ES256", "a")]
        issuer.status, issuer.location = 302, issuer.url
        before = issuer.asked
        with pytest.raises(KeysUnavailableError):
            await KeySet(fetch, "ES256", refresh=1, cooldown=1).key("a")
        assert issuer.asked == before + 1


async def test_keys_in_a_token_are_ignored(idle_nats: NatsServer, issuer: Issuer) -> None:
    """A key in the token, or a URL to fetch one from, is neither used nor fetched."""
    with Issuer().running() as evil:
        evil.keys = [jwk("RS256", "evil")]
        issuer.keys = [jwk("RS256", "a")]
        async with _api(idle_nats, issuer) as http:
            assert await _status(http, signed("RS256", "a")) == 200
            for headers in (
                {"jku": evil.url},
                {"x5u": evil.url},
                {"jwk": jwk("RS256", "evil")},
                {"kid": evil.url},
                {"kid": "../../../../etc/passwd"},
                {"kid": "a' OR 1=1"},
            ):
                assert await _status(http, signed("RS256", "evil", headers=headers)) == 401
                named = {"kid": "a", **headers}
                assert await _status(http, signed("RS256", "evil", headers=named)) == 401
        assert evil.asked == 0
        assert issuer.asked == 1


async def test_a_cancelled_request_does_not_cancel_the_fetch() -> None:
    """The fetch is shared by all waiting requests."""
    clock = _Clock(jwk("ES256", "a"))
    keys = clock.key_set()
    impatient = asyncio.create_task(keys.key("a"))
    patient = asyncio.create_task(keys.key("a"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient
    assert clock.fetched == keys.fetches == 1
