"""Answers probes while the API waits for NATS.

The port is open before the application exists. Without an answer, an orchestrator would take a
process that waits for a dead one and kill it. So ``/healthz`` succeeds, ``/readyz`` fails, and all
other requests are asked to come back.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final

_MAX_HEAD_BYTES: Final = 16 * 1024
_HEAD_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 2

_JSON: Final = "application/json"
_LIVE: Final = ("200 OK", _JSON, '{"status":"ok"}')
_UNREADY: Final = (
    "503 Service Unavailable",
    _JSON,
    '{"reasons":["this process waits for NATS"],"status":"unready"}',
)
_LATER: Final = (
    "503 Service Unavailable",
    "application/problem+json",
    '{"title":"Service Unavailable","status":503,"detail":"this process waits for NATS"}',
)
# An EventSource gives up after an error status, and comes back after an empty stream. No empty line
# ends the block: some clients would dispatch an event without data.
_STREAM_LATER: Final = ("200 OK", "text/event-stream", f"retry: {_RETRY_S * 1000}\n")


@contextlib.asynccontextmanager
async def answering_probes(listener: socket.socket) -> AsyncIterator[None]:
    """Answer requests on a listening socket, which stays open afterwards."""
    # A duplicate, because the server closes the socket that it is given.
    server = await asyncio.start_server(_answer, sock=listener.dup(), limit=_MAX_HEAD_BYTES)
    try:
        yield
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    errors = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
    with contextlib.closing(writer), contextlib.suppress(*errors):
        async with asyncio.timeout(_HEAD_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            status, media_type, body = _answer_to(head.decode("latin-1"))
            writer.write(
                f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\n"
                f"content-length: {len(body)}\r\nretry-after: {_RETRY_S}\r\n"
                f"cache-control: no-store\r\nconnection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()


def _answer_to(head: str) -> tuple[str, str, str]:
    request_line, _, headers = head.partition("\r\n")
    _method, _, target = request_line.partition(" ")
    match target.split(" ")[0].partition("?")[0]:
        case "/healthz":
            return _LIVE
        case "/readyz":
            return _UNREADY
    return _STREAM_LATER if "text/event-stream" in headers else _LATER
