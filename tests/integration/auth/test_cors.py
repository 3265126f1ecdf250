"""Tests of cross-origin requests and their response headers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.in_process_api import InProcessApi, api_in_process
from harness.sse.client import SseClient

APP = "https://app.example.com"
FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
LIST = "/api/v1/workflows"


@asynccontextmanager
async def _api(
    nats: NatsServer, **settings: Any
) -> AsyncIterator[tuple[InProcessApi, httpx.AsyncClient]]:
    async with (
        api_in_process(nats.url, auth="jwt", auth_secret=SECRET, **settings) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        yield api, http


def _preflight(method: str, headers: str = "", origin: str = APP) -> dict[str, str]:
    fields = {"origin": origin, "access-control-request-method": method}
    return {**fields, "access-control-request-headers": headers} if headers else fields


async def test_no_cors_headers_without_allowed_origins(idle_nats: NatsServer) -> None:
    """This is the default: browsers block pages of other origins."""
    async with _api(idle_nats) as (_, http):
        answer = await http.get(LIST, headers={**bearer(token()), "origin": APP})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await http.options(LIST, headers=_preflight("GET"))).status_code == 405


async def test_responses_vary_by_origin(
    idle_nats: NatsServer,
) -> None:
    """A cache must not serve the response for one origin to another."""
    async with _api(idle_nats, cors_origins=APP) as (_, http):
        answer = await http.get(
            LIST, headers={**bearer(token()), "origin": "https://other.example"}
        )
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


async def test_a_preflight_needs_no_token(idle_nats: NatsServer) -> None:
    """It allows the methods and headers that clients of the API use."""
    async with _api(idle_nats, cors_origins=f"{APP}, http://localhost:5173") as (_, http):
        asked = (
            "authorization, content-type, idempotency-key, last-event-id, x-organization-id,"
            "cache-control"
        )
        for method in ("GET", "POST", "PUT", "DELETE"):
            for origin in (APP, "http://localhost:5173"):
                answer = await http.options(LIST, headers=_preflight(method, asked, origin))
                assert answer.status_code == 200
                assert answer.headers["access-control-allow-origin"] == origin
                assert method in answer.headers["access-control-allow-methods"]
                allowed = answer.headers["access-control-allow-headers"].lower()
                assert {name.strip() for name in asked.split(",")} <= set(allowed.split(", "))
                assert "Origin" in answer.headers["vary"]
                assert "access-control-allow-credentials" not in answer.headers
        for wrong in (
            _preflight("GET", origin="https://evil.example"),
            _preflight("GET", origin="https://app.example.com.evil.example"),
            _preflight("GET", origin="http://app.example.com"),
            _preflight("GET", origin="null"),
            _preflight("PATCH"),
            _preflight("GET", "x-evil"),
        ):
            answer = await http.options(LIST, headers=wrong)
            assert answer.status_code == 400
            assert answer.headers.get("access-control-allow-origin") in {None, APP}


async def test_responses_errors_and_streams_are_readable(idle_nats: NatsServer) -> None:
    """A page must be able to read a 401 to handle it."""
    async with _api(idle_nats, cors_origins=APP) as (api, http):
        await http.put(f"{LIST}/flow", json=FLOW, headers=bearer(token()))
        run = await http.post(f"{LIST}/flow/runs", json={}, headers=bearer(token()))
        origin = {"origin": APP}
        for path, headers, status in (
            (LIST, bearer(token()), 200),
            (LIST, {}, 401),
            (LIST, bearer(token(scope="")), 403),
            ("/nothing", {}, 404),
            (f"{LIST}/a.b", bearer(token()), 400),
        ):
            answer = await http.get(path, headers={**headers, **origin})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["vary"] == "Origin"
            assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
        answer = await http.get(LIST, headers={**bearer(token()), "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"
        stream = run.json()["stream_url"]
        async with SseClient(api.port, stream, headers={**bearer(token()), **origin}) as client:
            await client.take(1)
            assert client.headers["access-control-allow-origin"] == APP
            assert client.headers["vary"] == "Origin"


@pytest.mark.parametrize("direct", [True, False])
async def test_streams_send_each_cors_header_once(idle_nats: NatsServer, direct: bool) -> None:
    """This holds for direct writes and for plain ASGI."""
    async with _api(idle_nats, cors_origins="*", direct_writes=direct) as (_, http):
        await http.put(f"{LIST}/flow", json=FLOW, headers=bearer(token()))
        run = await http.post(f"{LIST}/flow/runs", json={}, headers=bearer(token()))
        async with http.stream(
            "GET", run.json()["stream_url"], headers={**bearer(token()), "origin": APP}
        ) as answer:
            names = [name.lower() for name, _ in answer.headers.raw]
            assert len(names) == len(set(names))
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["vary"] == "Origin"


async def test_credentials_require_a_named_origin(idle_nats: NatsServer) -> None:
    """Browsers reject a wildcard with credentials."""
    async with _api(idle_nats, cors_origins=APP, cors_credentials=True) as (_, http):
        answer = await http.get(LIST, headers={**bearer(token()), "origin": APP})
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
