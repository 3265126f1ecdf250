"""Streams through load balancers that are configured as docs/operations.md says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.nginx import Nginx, balancer
from harness.http.proxies import Proxy, caddy, envoy, envoy_by_default, traefik
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.ports import free_port
from harness.sse.client import SseClient

PROXIES = {"Envoy": envoy, "Traefik": traefik, "Caddy": caddy}


@pytest.fixture
async def ports(idle_nats: NatsServer, tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """Start an API replica that sends no heartbeat meanwhile, and the proxies in front of it."""
    with ApiProcess(idle_nats.url, tmp_path, heartbeat="10m") as api:
        async with AsyncExitStack() as stack:
            found = {
                name: stack.enter_context(Proxy(configure, api.port, tmp_path / name)).port
                for name, configure in {**PROXIES, "Envoy by default": envoy_by_default}.items()
            }
            port = free_port()
            found["nginx"] = stack.enter_context(
                Nginx(port, balancer(port, [api.port]), tmp_path)
            ).port
            yield found


@pytest.mark.timeout(300)
async def test_a_quiet_stream_outlives_the_limit_of_a_response(
    ports: dict[str, int], nats_client: Client
):
    """Envoy's default, which cuts a response after 15 seconds, is the clock."""
    log = HandWrittenLog(nats_client)
    await log.begin()
    path = f"/api/v1/sse/executions/{log.execution}/stream"
    async with AsyncExitStack() as stack:
        streams = {
            name: await stack.enter_async_context(
                SseClient(port, path, headers={"accept-encoding": "gzip, br"})
            )
            for name, port in ports.items()
        }
        for name, stream in streams.items():
            await _until(stream, "execution:started", name)
        limited = streams.pop("Envoy by default")
        async with asyncio.timeout(120):
            assert [event for event in await limited.all() if event.is_logged] == []
        await log.commit(written.step_started("n"))
        for name, stream in streams.items():
            await _until(stream, "step:started", name)
            assert "content-encoding" not in stream.headers, name


async def _until(stream: SseClient, event_type: str, name: str) -> None:
    """Read until an event of a type."""
    async with asyncio.timeout(60):
        while event_type not in [event.type for event in await stream.take(1)]:
            assert not stream.is_complete, f"{name} has cut the stream"
