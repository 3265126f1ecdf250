"""Limits: each has its own status and a message that names the limit and what to do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


@pytest.fixture(scope="module")
def replicas(
    idle_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ApiProcess]]:
    """Two replicas that allow a tenant three run starts and two feed messages per minute."""
    folder = tmp_path_factory.mktemp("limited")
    limits = {"max_runs_per_minute": "3", "max_messages_per_minute": "2"}
    with api_replicas(2, idle_nats.url, folder, prefix="limited", **limits) as processes:
        yield processes


async def test_run_starts_are_limited_across_replicas_and_routes(
    replicas: list[ApiProcess], tenant: str
) -> None:
    """The fourth start is a 429 at any replica and by any route."""
    headers = {"x-organization-id": tenant}
    async with (
        httpx.AsyncClient(base_url=replicas[0].url, headers=headers, timeout=60) as one,
        httpx.AsyncClient(base_url=replicas[1].url, headers=headers, timeout=60) as other,
    ):
        await one.put("/api/v1/workflows/w", json=FLOW)
        runs, stream = "/api/v1/workflows/w/runs", "/api/v1/executions/stream"
        started = await one.post(runs)
        assert started.status_code == 202
        assert (await other.post(runs)).status_code == 202
        async with other.stream("POST", stream, json={"flow_id": "w"}) as streamed:
            assert streamed.status_code == 200
        for client in (one, other):
            for refused in (
                await client.post(runs),
                await client.post(stream, json={"flow_id": "w"}),
            ):
                assert refused.status_code == 429
                assert 0 < int(refused.headers["retry-after"]) <= 60
                assert "may start 3 runs per minute" in refused.json()["detail"]
        other_tenant = {"x-organization-id": f"{tenant}-2"}
        await one.put("/api/v1/workflows/w", json=FLOW, headers=other_tenant)
        assert (await other.post(runs, headers=other_tenant)).status_code == 202


async def test_feed_messages_are_limited_across_replicas(
    replicas: list[ApiProcess], tenant: str
) -> None:
    """The third is a 429 at any replica; another tenant has a limit of its own."""
    for number, status in enumerate((202, 202, 429, 429)):
        async with httpx.AsyncClient(base_url=replicas[number % 2].url, timeout=60) as http:
            path, message = "/api/realtime/publish", {"type": "note"}
            said = await http.post(path, json=message, headers={"x-organization-id": tenant})
            assert said.status_code == status
            if status == 429:
                assert 0 < int(said.headers["retry-after"]) <= 60
                assert "publish 2 messages per minute" in said.json()["detail"]
            if number == 2:
                other = {"x-organization-id": f"{tenant}-2"}
                assert (await http.post(path, json=message, headers=other)).status_code == 202


async def _say(api: ApiProcess, *parts: bytes) -> tuple[int, dict[str, Any]]:
    """Send raw bytes; return the status and the problem."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        body = await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
    assert b"content-type: application/problem+json" in head
    return int(head.split()[1]), json.loads(body)


URL = 16 * 1024
HEADERS = 32 * 1024


@pytest.mark.parametrize(
    ("parts", "status", "said"),
    [
        ([b"GET /", b"x" * URL, b" HTTP/1.1\r\nhost: a\r\n\r\n"], 414, "longer than 16384 bytes"),
        ([b"GET /healthz?" + b"x" * URL], 414, "longer than 16384 bytes"),
        ([b"GET /healthz?" + b"x" * (4 * URL)], 414, "longer than 16384 bytes"),
        ([b"GET / HTTP/1.1\r\na: ", b"x" * HEADERS, b"\r\n\r\n"], 431, "larger than 32768 bytes"),
        ([b"GET / HTTP/1.1\r\n", b"x" * (20 * HEADERS)], 431, "larger than 32768 bytes"),
        ([b"GET / HTTP/1.1\r\na: ", *[b"x" * 1000] * 300], 431, "larger than 32768 bytes"),
        ([b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 101, b"\r\n"], 431, "more than 100 headers"),
        ([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 102], 431, "more than 100 headers"),
        ([b"GET / HTTP/1.1\r\n", (b"a: " + b"x" * 400 + b"\r\n") * 84], 431, "larger than 32768"),
    ],
)
async def test_request_heads_are_limited(
    api: ApiProcess, parts: list[bytes], status: int, said: str
) -> None:
    """At once, in pieces, or without an end."""
    found, problem = await _say(api, *parts)
    assert found == problem["status"] == status
    assert said in problem["detail"]


async def test_trailers_count_as_headers(api: ApiProcess) -> None:
    """The request is not processed further."""
    begin = (
        b"POST /api/v1/triggers/x HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for trailers in ([b"a: " + b"x" * (2 * HEADERS)], [b"a: b\r\n"] * 102, [b"x" * 1000] * 300):
        status, problem = await _say(api, begin, b"2\r\n{}\r\n0\r\n", *trailers)
        assert (status, problem["status"]) == (431, 431)


async def test_a_head_at_its_limits_is_served(api: ApiProcess) -> None:
    """So are the next request on the same connection and a body in many small chunks."""
    most = {f"a{number}": "x" * 300 for number in range(94)}

    async def body() -> AsyncIterator[bytes]:
        yield b"["
        for _ in range(20_000):
            yield b" "
        yield b"]"

    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
        for _ in range(3):
            assert (await http.get("/healthz", headers=most)).status_code == 200
        answer = await http.get("/nothing?" + "x" * (URL - len("/nothing?")))
        assert answer.status_code == 404
        answer = await http.post("/api/v1/triggers/x", content=body())
        assert answer.json()["errors"][0]["detail"] == "the body must be a JSON object"


async def test_refused_requests_do_not_affect_others(api: ApiProcess) -> None:
    """No refusal leaves a connection open."""
    attacks = (_say(api, b"GET / HTTP/1.1\r\na: ", b"x" * (4 * HEADERS)) for _ in range(20))
    assert {status for status, _ in await asyncio.gather(*attacks)} == {431}
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
        assert (await http.get("/healthz")).status_code == 200
