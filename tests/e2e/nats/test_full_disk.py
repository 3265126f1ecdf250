"""NATS's disk is full for a while."""

import asyncio
import contextlib
import re
from functools import partial
from pathlib import Path

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.nats.small_disk import SmallDisk
from harness.processes.api_and_worker import OpenServices
from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp

LARGE = {"input": {"text": "x" * 100_000}}


async def fill_store(http: httpx.AsyncClient) -> None:
    """Start runs until one is refused, because NATS cannot store it."""
    async with asyncio.timeout(60):
        while (await http.post("/api/v1/workflows/flow/runs", json=LARGE)).status_code == 202:
            pass


@pytest.mark.timeout(180)
async def test_services_say_that_nats_cannot_store(tmp_path: Path, services: OpenServices) -> None:
    """Readiness names the reason. After a restart of NATS every run goes on."""
    with SmallDisk(tmp_path / "disk", 64) as disk, NatsServer(disk.folder / "nats") as server:
        async with services(server.url) as both:
            await both.start()
            await both.store_workflow()
            runs = [(await both.start_run())[0] for _ in range(20)]
            disk.fill()
            await fill_store(both.http)
            reasons = await both.until_ready(ready=False)
            assert all(reason.startswith("NATS cannot store") for reason in reasons)
            assert [status for status, _ in await both.probe("/healthz")] == [200, 200]
            disk.free()
            server.stop()
            server.start()
            await both.until_ready()
            runs.append((await both.start_run())[0])
            await both.all_completed(runs)


@pytest.mark.timeout(180)
async def test_tailrace_up_restarts_a_nats_that_could_not_store(tmp_path: Path) -> None:
    """Only once its folder can be written again, and without the operator's help."""
    with SmallDisk(tmp_path / "up", 64) as disk, TailraceUp(disk.folder) as up:
        up.wait_ready()
        async with httpx.AsyncClient(base_url=up.url, timeout=60) as http:
            nodes = {"a": {"type": "delay", "with": {"duration": "500ms"}}}
            await http.put("/api/v1/workflows/flow", json={"nodes": nodes})
            runs = []
            for _ in range(10):
                answer = await http.post("/api/v1/workflows/flow/runs", json={})
                runs.append(answer.json()["execution_id"])
            before = up.child("nats-server")
            disk.fill()
            await fill_store(http)
            await asyncio.to_thread(
                up.wait_stderr, r"NATS cannot store: .*cannot be written: No space left on device"
            )
            assert up.child("nats-server") == before
            disk.free()
            await asyncio.to_thread(up.wait_stderr, r"can be written: restarting NATS")
            await until(partial(completed, http, runs), 90)
            assert len(re.findall("restarting NATS", up.stderr())) == 1
            assert up.child("nats-server") != before


async def completed(http: httpx.AsyncClient, runs: list[str]) -> bool:
    """Return whether all runs have completed."""
    with contextlib.suppress(httpx.TransportError, KeyError):
        answers = [(await http.get(f"/api/v1/executions/{run}")).json() for run in runs]
        return all(answer["status"] == "completed" for answer in answers)
    return False
