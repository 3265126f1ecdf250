"""The rules of RFC 9110 and 9112 for hosts, chunks, trailers and HTTP/1.0."""

import asyncio
import json

import pytest

from harness.processes.api_process import ApiProcess

pytestmark = pytest.mark.one_node("HTTP only")

BODY = b'{"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}'


async def send(api: ApiProcess, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes; return the status, headers and body of the response, read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(b"".join(parts))
        async with asyncio.timeout(30):
            received = await reader.read()
    finally:
        writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


def request(line: str, *headers: str, host: str | None = "127.0.0.1") -> bytes:
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "head",
    [
        request("GET /healthz HTTP/1.1", host=None),
        request("GET /healthz HTTP/1.1", "Host: 127.0.0.1"),
        request("GET /healthz HTTP/1.0", "Host: localhost"),
        request("GET /healthz HTTP/1.1", host="a b"),
        request("GET /healthz HTTP/1.1", host="me@localhost"),
        request("GET /healthz HTTP/1.1", host="localhost/x"),
        request("GET /healthz HTTP/1.1", host="localhost:8o80"),
    ],
)
async def test_a_request_has_one_host(api, head):
    status, headers, body = await send(api, head)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert "Host header" in json.loads(body)["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:80", "localhost", "LOCALHOST:"])
async def test_hosts_of_this_machine_are_served(api, host):
    status, _, _ = await send(api, request("GET /healthz HTTP/1.1", host=host))
    assert status == 200


@pytest.mark.parametrize("host", ["tailrace", "intranet:8080", "evil.example", "ai."])
async def test_other_names_are_refused_without_authentication(api, host):
    """A page can let a name without a dot resolve to this machine, too."""
    status, _, body = await send(api, request("GET /healthz HTTP/1.1", host=host))
    assert status == 421
    assert b"TAILRACE_ALLOWED_HOSTS" in body


async def test_trailers_are_no_headers(api, tenant):
    """The body's end must not name another tenant, or carry a token."""
    head = request(
        "PUT /api/v1/workflows/flow HTTP/1.1",
        f"X-Organization-ID: {tenant}",
        "Transfer-Encoding: chunked",
        "Content-Type: application/json",
    )
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    trailers = b"0\r\nX-Organization-ID: other\r\nHost: other\r\nAuthorization: Bearer x\r\n\r\n"
    status, _, body = await send(api, head, chunk, trailers)
    assert status == 201, body
    path = "GET /api/v1/workflows/flow HTTP/1.1"
    for name, expected in ((tenant, 200), ("other", 404)):
        status, _, _ = await send(api, request(path, f"X-Organization-ID: {name}"))
        assert status == expected


async def test_chunks_in_http_1_0_are_refused(api):
    head = request("PUT /api/v1/workflows/flow HTTP/1.0", "Transfer-Encoding: chunked")
    status, _, body = await send(api, head, b"0\r\n\r\n")
    assert status == 400
    assert b"Transfer-Encoding" in body


async def test_http_1_0_gets_neither_chunks_nor_an_interim_response(api, tenant):
    head = request(
        "PUT /api/v1/workflows/flow HTTP/1.0",
        f"X-Organization-ID: {tenant}",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
        "Expect: 100-continue",
    )
    status, headers, body = await send(api, head, BODY)
    assert (status, "transfer-encoding" in headers) == (201, False)
    assert json.loads(body)["version"] >= 1
    path = "/api/v1/sse/executions/missing/stream"
    status, headers, body = await send(api, request(f"GET {path} HTTP/1.0"))
    assert (status, headers["connection"]) == (404, "close")
    topics = "/api/v1/sse/stream?topics=nothing"
    status, headers, body = await send(api, request(f"GET {topics} HTTP/1.0"))
    assert "transfer-encoding" not in headers


async def test_a_stream_of_http_1_0_ends_with_its_connection(api, tenant):
    """Proxies such as nginx ask so by default."""
    path = f"/api/realtime/events?organization_id={tenant}"
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request(f"GET {path} HTTP/1.0"))
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        first = await reader.readuntil(b"\n")
    writer.close()
    assert head.startswith(b"http/1.1 200")
    assert b"transfer-encoding" not in head
    assert first.partition(b":")[0] in {b"retry", b"event", b"id", b"data", b""}


async def test_an_expectation_is_met_in_http_1_1(api, tenant):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        request(
            "PUT /api/v1/workflows/flow HTTP/1.1",
            f"X-Organization-ID: {tenant}",
            "Content-Type: application/json",
            f"Content-Length: {len(BODY)}",
            "Expect: 100-continue",
        )
    )
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(BODY)
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
    writer.close()


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
async def test_whitespace_around_a_value_does_not_belong_to_it(api, tenant, space):
    """RFC 9110, 5.5; and an id that was copied with a space."""
    head = request(
        "PUT /api/v1/workflows/flow HTTP/1.1",
        f"X-Organization-ID:{space}{tenant}{space}",
        f"Idempotency-Key:{space}k{space}",
        f"Content-Length:{space}{len(BODY)}{space}",
    )
    status, _, body = await send(api, head, BODY)
    assert status == 201, body
    encoded = space.replace(" ", "%20").replace("\t", "%09")
    path = f"GET /api/v1/workflows?organization_id={tenant}{encoded}&limit=10{encoded} HTTP/1.1"
    status, _, body = await send(api, request(path))
    assert (status, len(json.loads(body)["workflows"])) == (200, 1)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/workflows", 200), ("/api/v1/nothing", 404), ("/healthz", 200)],
)
async def test_no_cache_keeps_private_answers(api, path, status):
    found, headers, _ = await send(api, request(f"GET {path} HTTP/1.1"))
    assert found == status
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_a_refusal_of_the_protocol_has_the_same_headers(api):
    _, headers, _ = await send(api, request("GET /healthz HTTP/1.1", host=None))
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
