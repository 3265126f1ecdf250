"""Requests changed at random get a documented answer, soon, and leave the API healthy.

Their paths, query strings, headers and bodies are mutated by the fuzzer of `fuzz`, from every
operation of the API's description.
"""

import itertools
import random
import re
import select
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from fuzz.mutation import mutated
from fuzz.targets import seeds_of

from harness.processes.api_process import ApiProcess

REQUESTS = 400
"""The number of requests, the same ones each time."""
TIMEOUT_S = 100.0
PATIENCE_S = 0.2
"""How long to wait for an answer before the end is sent: the rest of a body will not come."""

IDS = [b"flow", b"00000000-0000-7000-8000-000000000000", b"a", b"-", b"go.on"]
VALUES = {
    "query": [
        b"1",
        b"200",
        b"true",
        b"flow",
        b"feed,paused,execution:a",
        b"a,b",
        b"18f3a-12-0",
        b"",
    ],
    "last-event-id": [b"18f3a-12-0", b"0-0-0", b" 18f3a-1-1\t", b"x"],
    "x-organization-id": [b"acme", b"acme ", b"a" * 65],
    "idempotency-key": [b"k", b"k" * 256],
    "content-type": [b"application/json", b"application/x-www-form-urlencoded", b"text/plain"],
    "accept": [b"text/event-stream", b"*/*", b"application/json;q=0"],
    "authorization": [b"Bearer x", b"Basic eDp4"],
    "range": [b"bytes=0-1"],
    "expect": [b"100-continue"],
    "transfer-encoding": [b"chunked", b"gzip, chunked"],
    "content-length": [b"0", b"5", b"-1", b"99999999999999999999"],
}
HEADERS = [name for name in VALUES if name != "query"]
QUERY = [
    "limit",
    "cursor",
    "status",
    "topics",
    "pipelineIds",
    "visible",
    "last_event_id",
    "node",
    "_",
]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.fixture
def operations(api: ApiProcess) -> list[tuple[str, str]]:
    """The methods and paths of the API."""
    paths: Mapping[str, Mapping[str, Any]] = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    return [(method, path) for path, methods in sorted(paths.items()) for method in sorted(methods)]


def requests(operations: list[tuple[str, str]]) -> Iterator[bytes]:
    """Yield requests as bytes."""
    source = random.Random("requests")
    bodies = [*seeds_of("body"), *seeds_of("definition")]
    while True:
        method, path = source.choice(operations)
        target = re.sub(r"\{\w+\}", lambda _: quote_from_bytes(value(IDS, source)), path)
        pairs = [
            f"{source.choice(QUERY)}={quote_from_bytes(value(VALUES['query'], source))}"
            for _ in range(source.choice((0, 0, 1, 2)))
        ]
        head = f"{method.upper()} {target}{'?' if pairs else ''}{'&'.join(pairs)} HTTP/1.1\r\n"
        lines = [head.encode(), b"Host: localhost\r\n"]
        names = source.sample(HEADERS, source.choice((0, 1, 1, 2)))
        for name in names:
            line = re.sub(rb"[\r\n\0]", b"", value(VALUES[name], source))
            lines.append(name.encode() + b": " + line + b"\r\n")
        body = value(bodies, source)[:50_000] if method in {"post", "put"} else b""
        if not {"content-length", "transfer-encoding"} & set(names):
            lines.append(f"Content-Length: {len(body)}\r\n".encode())
        request = b"".join([*lines, b"Connection: close\r\n\r\n", body])
        # Some are no HTTP any more.
        yield mutated([request], source) if source.random() < 0.2 else request


def value(seeds: list[bytes], source: random.Random) -> bytes:
    """Return one of the seeds, usually changed."""
    return mutated(seeds, source)[:2000] if source.random() < 0.4 else source.choice(seeds)


def status_of(port: int, request: bytes) -> int | None:
    """Return the status of the answer; None if the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        try:
            connection.sendall(request)
            # Once the server has received the end, it answers no further request.
            if not select.select([connection], [], [], PATIENCE_S)[0]:
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(64)
        # The server may close before it has read all of a request that it refuses.
        except (BrokenPipeError, ConnectionResetError):
            return None
        found = STATUS.match(answer)
        return int(found[1]) if found else None


def test_fuzzed_requests_get_documented_answers(api: ApiProcess, operations: list[tuple[str, str]]):
    # Other tests of this API may have made it fail on purpose.
    logged, seen = len(api.log_text), dict[int | None, int]()
    for request in itertools.islice(requests(operations), REQUESTS):
        status = status_of(api.port, request)
        assert status is None or status < 500, request
        seen[status] = seen.get(status, 0) + 1
    # Not all of them fail alike.
    assert {200, 400, 404, 422} <= seen.keys()
    assert httpx.get(f"{api.url}/healthz").status_code == 200
    assert '"level": "error"' not in api.log_text[logged:]
