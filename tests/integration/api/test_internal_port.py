"""Probes and metrics on a port that no client reaches."""

import os
import signal
import socket
from pathlib import Path

import httpx

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, refused_start
from harness.processes.polling import until
from harness.processes.ports import free_port

TOKENS = {"auth": "jwt", "auth_secret": "x" * 32}


async def test_metrics_need_no_token_and_are_on_the_internal_port_alone(
    idle_nats: NatsServer, tmp_path: Path
):
    port = free_port()
    with ApiProcess(idle_nats.url, tmp_path, internal_port=str(port), **TOKENS) as api:
        async with httpx.AsyncClient(trust_env=False) as client:
            inside, outside = f"http://127.0.0.1:{port}", api.url
            metrics = await client.get(f"{inside}/metrics")
            assert (metrics.status_code, "tailrace_" in metrics.text) == (200, True)
            assert (await client.get(f"{inside}/readyz")).status_code == 200
            assert (await client.get(f"{inside}/api/v1/executions")).status_code == 404
            assert (await client.get(f"{outside}/readyz")).status_code == 200
            assert (await client.get(f"{outside}/metrics")).status_code in (401, 404)


async def test_a_draining_replica_is_unready_on_the_internal_port(
    idle_nats: NatsServer, tmp_path: Path
):
    port = free_port()
    settings = {"internal_port": str(port), "drain_delay": "60s"}
    with ApiProcess(idle_nats.url, tmp_path, **settings) as api:
        async with httpx.AsyncClient(trust_env=False) as client:
            os.kill(api.pid, signal.SIGTERM)

            async def is_unready() -> bool:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 503

            await until(is_unready)
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
        api.kill()


def test_an_internal_port_that_is_in_use_prevents_the_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refused_start(TAILRACE_INTERNAL_PORT=str(taken.getsockname()[1]))
    assert "TAILRACE_INTERNAL_PORT" in line


def test_several_processes_cannot_share_an_internal_port():
    line = refused_start(TAILRACE_INTERNAL_PORT="1", TAILRACE_PROCESSES="2")
    assert "TAILRACE_PROCESSES=1" in line
