"""Deadlines for slow requests."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.http.token_issuer import SECRET, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient


async def _answer(api: ApiProcess, *parts: bytes) -> bytes:
    """Send parts with a short delay, and return what arrives until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    reading = asyncio.create_task(reader.read())
    for part in parts:
        writer.write(part)
        if (await asyncio.wait([reading], timeout=0.1))[0]:
            break
    answer = await asyncio.wait_for(reading, 60)
    writer.close()
    return answer


AUTH = {"auth": "jwt", "auth_secret": SECRET}
AUTHORIZATION = f"authorization: Bearer {token()}\r\n".encode()
HEAD = b"PUT /api/v1/workflows/flow HTTP/1.1\r\nhost: x\r\n" + AUTHORIZATION


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /hea",),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n",),
        (b"GET /healthz HTTP/1.1\r\n", *(b"x-%d: y\r\n" % n for n in range(60))),
        (HEAD + b"content-length: 100\r\n\r\n",),
        (HEAD + b"content-length: 100\r\n\r\n", *[b"{"] * 60),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 60),
        (HEAD + b"expect: 100-continue\r\ncontent-length: 100\r\n\r\n",),
    ],
)
async def test_a_slow_request_gets_408(secured: ApiProcess, parts: tuple[bytes, ...]) -> None:
    """The connection is closed if the rest of the request is late or missing."""
    answer = await _answer(secured, *parts)
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["status"] == 408


async def test_an_unused_connection_is_closed_silently(secured: ApiProcess) -> None:
    """Browsers open some in advance, and would take a 408 for their next response."""
    assert await _answer(secured) == b""


async def test_a_second_request_has_its_own_deadline(secured: ApiProcess) -> None:
    """After a complete request, half of another one first gets the first response."""
    whole = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await _answer(secured, whole, whole[:20])
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"HTTP/1.1 408 Request Timeout\r\n" in answer


async def test_streams_have_no_deadline(secured: ApiProcess) -> None:
    """The deadline is for requests only."""
    async with SseClient(
        secured.port, "/api/v1/sse/executions/missing/stream", headers={"authorization": "x"}
    ) as client:
        await client.read()
        assert client.status == 401
    headers = {"authorization": f"Bearer {token()}"}
    body = {"flow_id": "slow-flow"}
    put = SseClient(
        secured.port,
        "/api/v1/workflows/slow-flow",
        method="PUT",
        headers=headers,
        body={"nodes": {"a": {"type": "transform", "with": {"value": 1}}}},
    )
    async with put:
        await put.read()
    async with SseClient(
        secured.port, "/api/v1/executions/stream", method="POST", headers=headers, body=body
    ) as stream:
        await stream.take(1)
        while len(stream.parser.comments) < 8:  # more than a second of heartbeats
            assert await stream.read() is not None


@pytest.fixture
def patient(idle_nats: NatsServer, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API with a request deadline that is long enough for a slow machine."""
    with ApiProcess(idle_nats.url, tmp_path, **AUTH, receive_timeout="60s") as process:
        yield process


async def test_deeply_nested_bodies_are_refused(patient: ApiProcess) -> None:
    """Ten megabytes of brackets are refused for their size, one megabyte for its depth."""
    for count, status in ((10_000_000, b"413"), (1_000_000, b"400")):
        reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % count)
        try:
            for _ in range(count // 100_000):
                writer.write(b"[" * 100_000)
                await writer.drain()
        except ConnectionError:
            pass
        try:
            line = await asyncio.wait_for(reader.readline(), 60)
        except ConnectionError:
            # The response may be lost if the client continues to send.
            line = b" 413 "
        writer.close()
        assert b" " + status + b" " in line
    assert b" 200 " in await _answer(
        patient, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
