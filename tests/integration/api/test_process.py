"""The API process: start, readiness and shutdown, with one-line startup errors."""

import asyncio
import socket
import threading
from pathlib import Path

import httpx
import nats
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, refused_start
from harness.processes.ports import free_port
from harness.sse.client import SseClient
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.subjects import Subjects

pytestmark = pytest.mark.one_node("the process and its settings only")


def test_an_unknown_setting_prevents_the_start() -> None:
    """The message suggests the most similar setting."""
    line = refused_start(TAILRACE_HARTBEAT="5s")
    assert "TAILRACE_HARTBEAT" in line
    assert "TAILRACE_HEARTBEAT" in line


def test_an_ill_typed_setting_prevents_the_start() -> None:
    """The message has the value and the expected type."""
    assert "TAILRACE_PORT" in refused_start(TAILRACE_PORT="http")


def test_unreachable_nats_prevents_the_start() -> None:
    """The message has the URL and what to do."""
    url = f"nats://127.0.0.1:{free_port()}"
    line = refused_start(NATS_URL=url, TAILRACE_NATS_CONNECT_TIMEOUT="500ms")
    assert url in line
    assert "NATS_URL" in line


def test_nats_without_jetstream_prevents_the_start(tmp_path: Path) -> None:
    """Tailrace needs JetStream."""
    with NatsServer(tmp_path, jetstream=False) as server:
        assert "JetStream" in refused_start(NATS_URL=server.url)


def test_an_old_nats_prevents_the_start() -> None:
    """The message has the actual and the required version."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(
                    b'INFO {"server_id":"x","version":"2.10.4","max_payload":1048576}\r\n'
                )
                while b"PING" not in connection.recv(4096):
                    pass
                connection.sendall(b"PONG\r\n")
                connection.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        line = refused_start(NATS_URL=f"nats://127.0.0.1:{listener.getsockname()[1]}")
    assert "2.10.4" in line
    assert "2.14" in line


def test_a_port_in_use_prevents_the_start(idle_nats: NatsServer) -> None:
    """The message names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused_start(NATS_URL=idle_nats.url, TAILRACE_PORT=str(port))
    assert f"127.0.0.1:{port}" in line


def test_a_foreign_address_prevents_the_start(idle_nats: NatsServer) -> None:
    """So does an unknown host."""
    allowed = {"NATS_URL": idle_nats.url, "TAILRACE_ALLOW_OPEN_BIND": "true"}
    assert "203.0.113.1" in refused_start(TAILRACE_HOST="203.0.113.1", **allowed)
    assert "nowhere.invalid" in refused_start(TAILRACE_HOST="nowhere.invalid", **allowed)


def test_an_open_bind_without_authentication_prevents_the_start(idle_nats: NatsServer) -> None:
    """The operator must allow it explicitly."""
    line = refused_start(NATS_URL=idle_nats.url, TAILRACE_HOST="0.0.0.0")
    assert "TAILRACE_ALLOW_OPEN_BIND" in line


def test_an_open_bind_can_be_allowed(idle_nats: NatsServer, tmp_path: Path) -> None:
    """The setting is TAILRACE_ALLOW_OPEN_BIND."""
    with ApiProcess(idle_nats.url, tmp_path, host="0.0.0.0", allow_open_bind="true") as api:
        assert httpx.get(f"{api.url}/readyz", timeout=60).status_code == 200


async def test_a_harmful_stream_configuration_prevents_the_start(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The message names the stream and the field; nothing is changed."""
    with ApiProcess(nats_server.url, tmp_path):
        pass
    name = Subjects("tr").stream(EVENTS)
    client = await nats.connect(nats_server.url)
    try:
        config = (await client.jetstream().stream_info(name)).config
        config.max_msgs_per_subject = 5
        await client.jetstream().update_stream(config)
    finally:
        await client.close()
    line = await asyncio.to_thread(refused_start, NATS_URL=nats_server.url)
    assert name in line
    assert "max_msgs_per_subject" in line


async def test_an_outage_of_nats_is_reported(nats_server: NatsServer, tmp_path: Path) -> None:
    """Readiness fails, commands get 503 and streams a retry; then everything recovers."""
    with ApiProcess(nats_server.url, tmp_path, retry="20ms") as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            assert (await http.get("/readyz")).json() == {"status": "ready"}
            health = await http.get("/api/v1/sse/health")
            assert health.json() == {
                "status": "healthy",
                "nats": "connected",
                "redis": "connected",
            }
            nats_server.stop()
            while (ready := await http.get("/readyz")).status_code == 200:
                pass
            assert ready.status_code == 503
            assert ready.json()["reasons"] == ["NATS is not connected"]
            assert (await http.get("/healthz")).status_code == 200
            health = await http.get("/api/v1/sse/health")
            assert (health.status_code, health.json()["redis"]) == (503, "disconnected")
            command, stream = await asyncio.gather(
                http.get("/api/v1/workflows"),
                http.get("/api/v1/sse/executions/some/stream", headers={"last-event-id": "a-1-0"}),
            )
            assert command.status_code == 503
            assert command.headers["content-type"] == "application/problem+json"
            assert command.json()["detail"].startswith("NATS did not answer in time; repeat")
            assert int(command.headers["retry-after"]) > 0
            assert (stream.status_code, stream.headers["content-type"]) == (
                200,
                "text/event-stream",
            )
            assert stream.text.startswith("retry: ")
            nats_server.start()
            while (await http.get("/readyz")).status_code == 503:
                pass
            assert (await http.get("/api/v1/workflows")).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/sse/executions/missing/stream"])
async def test_head_is_get_without_the_body(http: httpx.AsyncClient, path: str) -> None:
    """HEAD returns the same headers."""
    answer = await http.head(path)
    assert answer.status_code == (200 if path == "/healthz" else 404)
    assert answer.content == b""


async def test_two_installations_share_a_nats(nats_server: NatsServer, tmp_path: Path) -> None:
    """Another prefix is another installation."""
    flow = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
    with (
        ApiProcess(nats_server.url, tmp_path) as one,
        ApiProcess(nats_server.url, tmp_path, prefix="blue") as other,
    ):
        async with httpx.AsyncClient(timeout=60) as http:
            await http.put(f"{other.url}/api/v1/workflows/flow", json=flow)
            assert (await http.get(f"{one.url}/api/v1/workflows/flow")).status_code == 404
            path = f"{other.url}/api/v1/workflows/flow/runs"
            run = (await http.post(path, json={})).json()
        async with SseClient(other.port, run["stream_url"]) as stream:
            _, queued = await stream.take(2)
        assert queued.type == "execution:queued"


async def test_a_second_start_changes_nothing_in_jetstream(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The topology is applied idempotently."""
    client = await nats.connect(nats_server.url)
    jetstream = JetStream(client)

    async def configurations() -> list[object]:
        answer = await jetstream.api("STREAM.LIST")
        return [stream["config"] for stream in answer["streams"]]

    with ApiProcess(nats_server.url, tmp_path):
        before = await configurations()
    with ApiProcess(nats_server.url, tmp_path):
        assert await configurations() == before
    await client.close()
