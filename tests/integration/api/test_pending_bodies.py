"""Bodies of requests that are being received take bounded memory, in all and of each tenant."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
from harness.processes.process_usage import memory_bytes

MIB = 1024 * 1024
FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


@pytest.fixture(scope="module")
def api(idle_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Start an API process with small limits."""
    limits = {"max_pending_body_bytes": str(3 * MIB), "max_tenant_pending_body_bytes": str(2 * MIB)}
    with ApiProcess(idle_nats.url, tmp_path_factory.mktemp("bodies"), **limits) as process:
        yield process


@contextlib.asynccontextmanager
async def unfinished(
    api: ApiProcess, tenants: list[str]
) -> AsyncIterator[list[asyncio.Task[dict[str, Any]]]]:
    """Send a body of 1 MiB without its last byte for each tenant; yield tasks of the answers."""
    head = (
        "PUT /api/v1/workflows/w HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {MIB}\r\nx-organization-id: "
    )
    writers: list[asyncio.StreamWriter] = []

    async def answer(tenant: str) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writers.append(writer)
        with contextlib.suppress(ConnectionError):  # refused before the end
            writer.write(f"{head}{tenant}\r\n\r\n".encode() + b" " * (MIB - 1))
            await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        assert "retry-after: 1" in lines
        problem: dict[str, Any] = json.loads(await reader.read())
        return problem

    tasks = [asyncio.create_task(answer(tenant)) for tenant in tenants]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for writer in writers:
            writer.close()


async def refusals(tasks: list[asyncio.Task[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """Return the first answers."""
    done = []
    for earliest in asyncio.as_completed(tasks, timeout=60):
        done.append(await earliest)
        if len(done) == count:
            return done
    raise AssertionError(f"only {len(done)} were refused")


async def put(api: ApiProcess, tenant: str) -> int:
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
        headers = {"x-organization-id": tenant}
        return (await http.put("/api/v1/workflows/w", json=FLOW, headers=headers)).status_code


async def test_a_tenant_cannot_take_the_memory_of_others(api: ApiProcess, tenant: str) -> None:
    """Bodies beyond its limit are refused, and it is served again once it has sent fewer."""
    assert await put(api, tenant) == 201
    before = memory_bytes(api.pid)
    async with unfinished(api, [tenant] * 60) as tasks:
        for problem in await refusals(tasks, 57):
            assert problem["status"] == 429
            assert "2097152 bytes (TAILRACE_MAX_TENANT_PENDING_BODY_BYTES)" in problem["detail"]
        assert memory_bytes(api.pid) - before < 30 * MIB
        assert await put(api, f"{tenant}-2") == 201

    async def is_served() -> bool:
        return await put(api, tenant) == 200

    await until(is_served)


async def test_all_tenants_together_have_a_limit(api: ApiProcess, tenant: str) -> None:
    async with unfinished(api, [f"{tenant}-{number}" for number in range(20)]) as tasks:
        for problem in await refusals(tasks, 17):
            assert problem["status"] == 503
            assert "3145728 bytes (TAILRACE_MAX_PENDING_BODY_BYTES)" in problem["detail"]
