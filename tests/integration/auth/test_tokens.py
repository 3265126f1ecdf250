"""Accepted and refused tokens."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import jwt
import pytest

from harness.http.token_issuer import SECRET, bearer, claims, private_key, public_pem, signed, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.in_process_api import api_in_process

LIST = "/api/v1/workflows"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def test_the_caller_is_known(http: httpx.AsyncClient) -> None:
    """By its token, which also names the author of the versions that it stores."""
    headers = bearer(token(sub="ada", org="acme", scope="workflows:write workflows:read"))
    definition = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
    put = await http.put("/api/v1/workflows/of-ada", json=definition, headers=headers)
    assert put.is_success, put.text
    listed = await http.get("/api/v1/workflows/of-ada/versions", headers=headers)
    assert [each["author"] for each in listed.json()["versions"]] == ["ada"]
    assert (await http.get("/api/v1/me", headers=headers)).status_code == 403
    headers = bearer(token(sub="ada", org="acme", scope="executions:read"))
    me = (await http.get("/api/v1/me", headers=headers)).json()
    assert (me["auth"], me["subject"], me["organizations"]) == ("jwt", "ada", ["acme"])
    assert (me["organization"], me["scopes"]) == ("acme", ["executions:read"])
    assert me["expires_at"] > me["server_time"]


def _by_hand(header: Any, body: Any, key: bytes = SECRET.encode()) -> str:
    """Return a token that no library would create."""
    encoded = (
        content if isinstance(content, bytes) else json.dumps(content).encode()
        for content in (header, body)
    )
    head = ".".join(map(_part, encoded))
    return f"{head}.{_part(hmac.digest(key, head.encode(), hashlib.sha256))}"


async def _refused(http: httpx.AsyncClient, text: str, status: int = 401) -> str:
    answer = await http.get(LIST, headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    # No part of the token that is long enough to be useful.
    assert not text or text[:20] not in answer.text + str(answer.headers)
    detail: str = answer.json()["detail"]
    return detail


async def test_a_token_is_accepted_in_all_places(http: httpx.AsyncClient) -> None:
    """The header, and two parameters for clients that cannot send headers."""
    text = token()
    for request in (
        {"headers": {"authorization": f"Bearer {text}"}},
        {"headers": {"authorization": f"bearer  {text}"}},
        {"params": {"Authorization": f"Bearer {text}"}},
        {"params": {"access_token": text}},
        {"params": {"access_token": text}, "headers": {"authorization": "Basic dTpw"}},
        {"params": {"access_token": text}, "headers": {"authorization": f"Bearer {text}"}},
    ):
        assert (await http.get(LIST, **request)).status_code == 200, request  # type: ignore[arg-type]
    assert (await http.get(f"{LIST}?Authorization=Bearer+{text}")).status_code == 200


async def test_only_health_and_description_are_public(http: httpx.AsyncClient) -> None:
    """401 says how to send a token; probes and the API description are public."""
    for path in ("/healthz", "/readyz", "/api/v1/sse/health"):
        assert (await http.get(path)).status_code == 200
    for path in (LIST, "/api/v1/executions/x", "/api/v1/sse/executions/x/stream", "/metrics"):
        answer = await http.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization" in answer.json()["detail"]
    for authorization in ("", "Bearer", "Basic dTpw", token()):
        answer = await http.get(LIST, headers={"authorization": authorization})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_two_different_tokens_are_refused(http: httpx.AsyncClient) -> None:
    """Choosing one of them would be a guess."""
    answer = await http.get(LIST, headers=bearer(token()), params={"access_token": token(sub="b")})
    assert answer.status_code == 401
    assert "several" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"exp": None}, "no exp"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": 10**400}, "exp"),
        ({"exp": [1]}, "malformed"),
        ({"nbf": int(time.time()) + 86_400}, "not valid yet"),
        ({"nbf": "later"}, "malformed"),
        ({"iat": int(time.time()) + 86_400}, "not valid yet"),
        ({"sub": None}, "no sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "a\r\nset-cookie: b"}, "sub"),
        ({"sub": "a\x00b"}, "sub"),
        ({"sub": "x" * 257}, "sub"),
        ({"org": "*"}, "org"),
        ({"org": ">"}, "org"),
        ({"org": "acme.>"}, "org"),
        ({"org": "a.b"}, "org"),
        ({"org": ""}, "org"),
        ({"org": "acme\n"}, "org"),
        ({"org": ["acme"]}, "org"),
        ({"org": None, "orgs": ["acme", "*"]}, "org"),
        ({"org": None, "orgs": "acme"}, "orgs"),
        ({"org": None, "orgs": [7]}, "org"),
        ({"scope": 5}, "scope"),
    ],
)
async def test_invalid_claims_are_refused(
    http: httpx.AsyncClient, changed: dict[str, Any], reason: str
) -> None:
    """401 that names the claim and what is wrong."""
    text = _by_hand({"alg": "HS256"}, claims(**changed))
    assert reason in await _refused(http, text)


async def test_clocks_may_differ_by_the_leeway(http: httpx.AsyncClient) -> None:
    """The leeway applies in both directions."""
    now = int(time.time())
    for changed in ({"exp": now - 3}, {"nbf": now + 3}, {"iat": now + 3}):
        answer = await http.get(LIST, headers=bearer(token(**changed)))
        assert answer.status_code == 200


async def test_audience_and_issuer_are_checked_if_configured(idle_nats: NatsServer) -> None:
    """The token must name one of the configured audiences."""
    async with (
        api_in_process(
            idle_nats.url,
            auth="jwt",
            auth_secret=SECRET,
            auth_issuer="https://issuer.example",
            auth_audience="tailrace, tailrace-test",
        ) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        good: dict[str, Any] = {"iss": "https://issuer.example", "aud": "tailrace"}
        for changed in (good, {**good, "aud": ["x", "tailrace-test"]}):
            answer = await http.get(LIST, headers=bearer(token(**changed)))
            assert answer.status_code == 200
        for changed, reason in (
            ({**good, "aud": "other"}, "another audience"),
            ({**good, "aud": ["other"]}, "another audience"),
            ({**good, "aud": 7}, "another audience"),
            ({**good, "aud": None}, "no aud"),
            ({**good, "iss": "https://evil.example"}, "another issuer"),
            ({**good, "iss": None}, "no iss"),
            ({**good, "iss": ["https://issuer.example"]}, "another issuer"),
        ):
            assert reason in await _refused(http, _by_hand({"alg": "HS256"}, claims(**changed)))


async def test_the_algorithm_is_pinned(http: httpx.AsyncClient) -> None:
    """The algorithm none, in any spelling, and other algorithms with the same key are refused."""
    for algorithm in ("none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], "hs256", "HS1"):
        head, _, signed_as_usual = _by_hand({"alg": algorithm}, claims()).rpartition(".")
        for signature in ("", _part(b"x"), signed_as_usual):
            assert "HS256" in await _refused(http, f"{head}.{signature}")
    for algorithm in ("HS384", "HS512"):
        text = jwt.encode(claims(), SECRET + SECRET, algorithm=algorithm)
        assert "HS256" in await _refused(http, text)
    for algorithm in ("RS256", "ES256", "EdDSA"):
        assert "HS256" in await _refused(http, signed(algorithm))
    assert await _refused(http, _by_hand({"typ": "JWT"}, claims()))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_is_not_accepted_as_a_secret(
    idle_nats: NatsServer, algorithm: str
) -> None:
    """Public keys sign nothing, even if a token claims HS256 (CVE-2016-5431)."""
    pem = public_pem(algorithm)
    async with (
        api_in_process(
            idle_nats.url, auth="jwt", auth_algorithm=algorithm, auth_public_key=pem
        ) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        good = await http.get(LIST, headers=bearer(signed(algorithm)))
        assert good.status_code == 200
        for secret in (pem.encode(), pem.strip().encode(), b""):
            for claimed in ("HS256", algorithm, "none"):
                await _refused(http, _by_hand({"alg": claimed}, claims(), secret))
        # An attacker's key in the token, or a URL to fetch it from.
        stranger = private_key(algorithm, "stranger")
        for headers in (
            {"jwk": {"kty": "oct", "k": _part(b"secret")}},
            {"jku": "http://127.0.0.1:1/keys"},
            {"x5u": "http://127.0.0.1:1/cert"},
            {"x5c": ["AAAA"]},
            {"kid": "../../../../dev/null"},
        ):
            text = jwt.encode(claims(), stranger, algorithm=algorithm, headers=headers)
            assert "signature" in await _refused(http, text)
        others = {"RS256", "ES256", "EdDSA"} - {algorithm}
        for other in others:
            assert algorithm in await _refused(http, signed(other))


async def test_malformed_tokens_are_refused(http: httpx.AsyncClient) -> None:
    """Of any kind, size and depth."""
    good = token()
    head, body, signature = good.split(".")
    deep = b'{"alg":' + b"[" * 4000
    for text in (
        "q9z",
        "..",
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{_part(json.dumps(claims(org='other')).encode())}.{signature}",
        f"{head}..{signature}",
        f"{head}.{body}.{signature}====",
        f"{_part(deep)}.{body}.{signature}",
        f"{_part(b'[]')}.{body}.{signature}",
        f"{_part(b'null')}.{body}.{signature}",
        f"{_part(bytes(range(256)))}.{body}.{signature}",
        _by_hand({"alg": "HS256"}, b"[" * 4000),
        _by_hand({"alg": "HS256"}, b"[]"),
        _by_hand({"alg": "HS256"}, b'"x"'),
        _by_hand({"alg": "HS256"}, b"not JSON"),
        _by_hand({"alg": "HS256", "crit": ["exp"], "exp": 1}, claims()),
        _by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims()),
        _by_hand({"alg": "HS256"}, claims(), b"another secret, of thirty-two bytes or more"),
    ):
        await _refused(http, text)
    assert (await http.get(LIST, params={"access_token": "é" * 40})).status_code == 401
    for text in ("x" * 16_385, token(more="x" * 17_000)):
        assert "16384" in await _refused(http, text)


async def test_control_characters_in_a_token_are_refused(
    http: httpx.AsyncClient, secured: ApiProcess
) -> None:
    """In a query the token is malformed; in a header the server refuses the request."""
    for evil in ("%00", "%0d%0aset-cookie:%20a=b", "%0a", "%E2%80%A8", "%FF"):
        answer = await http.get(f"{LIST}?access_token={token()}{evil}")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        answer = await http.get(f"{LIST}?Authorization=Bearer%20{evil}{token()}")
        assert answer.status_code in {200, 401}  # surrounding white space is ignored
        assert "set-cookie" not in answer.headers
    for line in (b"\0", b"\r\n\0", b"\n x"):
        assert b" 400 " in await _raw(secured, b"authorization: Bearer x" + line)


async def _raw(api: ApiProcess, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /api/v1/workflows HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return answer
