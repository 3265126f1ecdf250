"""Several requests that a client sends at once (RFC 9112, 9.3); the last may be refused."""

import asyncio
import re

import pytest

from harness.processes.api_process import ApiProcess
from harness.processes.polling import until

pytestmark = pytest.mark.one_node("HTTP only")

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HOST = b"Host: localhost\r\n"
BODY = b'{"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}'

# Its answer needs NATS, so that what follows is received before.
ASKS = b"GET /pipeline/a/health HTTP/1.1\r\n" + HOST + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
WITHOUT_HOST = b"GET /healthz HTTP/1.1\r\n\r\n"
NOT_HTTP = b"\0\0\r\n\r\n"
CHUNKED = b"POST /api/v1/workflows/validate HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
BAD_CHUNK = b"\r\nzz\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([ASKS, HEALTH, b"GET /healthz HTTP/1.0\r\n\r\n"], [404, 200, 200]),
        ([ASKS, NOT_HTTP], [404, 400]),
        ([ASKS, HEALTH, WITHOUT_HOST, HEALTH], [404, 200, 400]),
        ([ASKS, HEALTH, CHUNKED, BAD_CHUNK, HEALTH], [404, 200, 400]),
        ([HEALTH, CHUNKED, b"Expect: 100-continue\r\n", BAD_CHUNK], [200, 400]),
        ([CHUNKED, b"Expect: 100-continue\r\n", BAD_CHUNK], [400]),
        ([CHUNKED.replace(b"validate", b"a/b/c/d/e"), BAD_CHUNK], [400]),
    ],
)
async def test_a_refusal_follows_the_answers_before_it(
    api: ApiProcess, sent: list[bytes], statuses: list[int]
) -> None:
    """A client takes answers in the order of its requests."""
    logged = len(api.log_text)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"".join(sent))
    async with asyncio.timeout(100):
        received = await reader.read()
    writer.close()
    assert [int(status) for status in STATUS.findall(received)] == statuses
    if b"POST" in sent[0]:
        # It is still being served when its client has its answer.
        await until(lambda: _has_logged(api, logged, '"method": "POST"'))
    assert '"level": "error"' not in api.log_text[logged:]


async def test_a_client_may_leave_before_its_answers(api: ApiProcess, tenant: str) -> None:
    """The request that is being served learns of it, not only the newest."""
    logged = len(api.log_text)
    lines = [
        b"PUT /api/v1/workflows/%b HTTP/1.1" % tenant.encode(),
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(BODY),
    ]
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"\r\n".join([*lines, b"", BODY]) + HEALTH)
    writer.close()
    await until(lambda: _has_logged(api, logged, f'"path": "/api/v1/workflows/{tenant}"'))
    assert '"level": "error"' not in api.log_text[logged:]


async def _has_logged(api: ApiProcess, start: int, text: str) -> bool:
    return text in api.log_text[start:]
