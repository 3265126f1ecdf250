"""A worker's metrics and probes."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.generators.workflows import definition
from harness.nats.server import NatsServer
from harness.processes.installation import Installation
from harness.processes.ports import free_port
from tailrace_shared.settings import WorkerSettings

BLOCKING = """
import time

from tailrace_worker.nodes import node


@node("test.stuck")
async def stuck() -> None:
    time.sleep(1000)
"""


async def sample(http: httpx.AsyncClient, name: str) -> float:
    """Scrape, and return the value of one metric with any labels."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    values = [
        found.value
        for family in text_string_to_metric_families(answer.text)
        for found in family.samples
        if found.name == name
    ]
    return sum(values)


async def test_the_metrics_of_a_worker(site: Installation):
    """They count messages per queue and running drives."""
    port = free_port()
    site.worker(metrics_port=str(port))
    stored = await site.store(definition({"a": {"type": "simulate", "with": {"duration": "1h"}}}))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert await sample(http, "tailrace_worker_executions") == 0
        await site.start(stored)
        async with asyncio.timeout(60):
            while await sample(http, "tailrace_worker_executions") != 1:
                pass
        assert await sample(http, "tailrace_broker_delivered_total") == 1
        assert await sample(http, "tailrace_broker_in_flight") == 1
        assert await sample(http, "process_resident_memory_bytes") > 1_000_000
        assert await sample(http, "tailrace_worker_slots") == WorkerSettings().worker_threads
        assert await sample(http, "tailrace_worker_queue_wait_seconds_count") == 1
        assert await sample(http, "tailrace_build_info") == 1
        assert (await http.get("/nothing")).status_code == 404
        assert (await http.post("/metrics")).status_code == 405


async def test_what_a_worker_did_is_counted(site: Installation):
    """Drives, attempts, retries and commits."""
    port = free_port()
    site.worker(metrics_port=str(port))
    nodes = {
        "a": {"type": "log", "with": {"message": "hello"}},
        "b": {
            "type": "fail",
            "needs": ["a"],
            "with": {"message": "no"},
            "retry": {"max_attempts": 2, "initial": "1ms"},
        },
    }
    await site.start(await site.store(definition(nodes)))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        async with asyncio.timeout(60):
            while (found := await _samples(http)).get("drives_total/finished") != 1:
                pass
    assert found["executions_ended_total/failed"] == 1
    assert found["retries_total/error"] == 1
    assert found["attempts_total/log/success"] == 1
    assert found["attempts_total/fail/retry"] == found["attempts_total/fail/error"] == 1
    assert found["attempt_seconds_count/fail"] == 2
    # A retry that is due at once is part of the same commit.
    assert found["commit_seconds_count/stored"] >= 1
    assert found["overdue_executions"] == found["rescued_executions_total"] == 0


async def _samples(http: httpx.AsyncClient) -> dict[str, float]:
    """Scrape; return the values of the worker's metrics by name and labels."""
    answer = await http.get("/metrics")
    return {
        "/".join([sample.name.removeprefix("tailrace_worker_"), *sample.labels.values()]): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("tailrace_worker_")
    }


async def test_probes_follow_nats(site: Installation, nats_server: NatsServer):
    """Without NATS a worker is healthy, for a restart would not help, but not ready."""
    port = free_port()
    site.worker(metrics_port=str(port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        nats_server.stop()
        while (ready := await http.get("/readyz")).status_code == 200:
            pass
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["NATS is not connected"])
        assert (await http.get("/healthz")).json() == {"status": "healthy"}
        nats_server.start()
        async with asyncio.timeout(60):
            while (await http.get("/readyz")).status_code != 200:
                pass


async def test_a_worker_whose_loop_is_blocked_is_not_healthy(
    site: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It looks alive from outside, and takes nothing."""
    (tmp_path / "blocking_nodes.py").write_text(BLOCKING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    port = free_port()
    site.worker(metrics_port=str(port), nodes="blocking_nodes")
    stored = await site.store(definition({"a": {"type": "test.stuck"}}))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        while (await http.get("/healthz")).status_code != 200:
            pass
        await site.start(stored)
        async with asyncio.timeout(60):
            while (health := await http.get("/healthz")).status_code == 200:
                pass
    assert health.json()["status"] == "unhealthy"
    assert "blocked" in health.json()["reasons"][0]


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_an_address_in_use_prevents_the_start(nats_server: NatsServer, host: str):
    """The error is one line with the address; here it is NATS's own port."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "NATS_URL": nats_server.url,
        "TAILRACE_METRICS_HOST": host,
        "TAILRACE_METRICS_PORT": str(nats_server.port),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tailrace_worker"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"cannot serve metrics on {host}:{nats_server.port}" in line
