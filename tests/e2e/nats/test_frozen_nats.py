"""A NATS that is frozen keeps all connections open and answers nothing."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from harness.nats.cluster import NatsCluster
from harness.nats.server import NatsServer
from harness.nats.tcp_proxy import Proxy
from harness.processes.api_and_worker import ApiAndWorker, OpenServices
from harness.processes.polling import until

NOTICED_S: Final = 10.0
"""The time within which readiness fails, and that no accepted start exceeds."""
_SLOW_MACHINE_S: Final = 10.0
"""Time that answers may take longer where other tests use the processors."""
_PAUSE_S: Final = 0.2


async def test_services_on_a_frozen_server_are_not_ready(
    nats_server: NatsServer, services: OpenServices
) -> None:
    """Both become unready within ten seconds, and are ready again with the server."""
    async with services(nats_server.url) as both:
        await both.start()
        await both.store_workflow()
        await both.until_ready()
        nats_server.freeze()
        try:
            began = time.monotonic()
            reasons = await both.until_ready(ready=False)
            assert time.monotonic() - began < NOTICED_S
            assert all(reason.startswith("NATS ") for reason in reasons)
            health = await both.http.get("/api/v1/sse/health")
            assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
            # The worker has two connections, and either makes it unready.
            await until(partial(_reports_no_connection, both))
            assert [status for status, _ in await both.probe("/healthz")] == [200, 200]
            run, took = await both.start_run()
            assert (run, took < NOTICED_S) == ("", True)
        finally:
            nats_server.thaw()
        await both.until_ready()
        run, _ = await both.start_run()
        await both.all_completed([run])


async def test_services_behind_a_half_open_network_recover(
    nats_server: NatsServer, services: OpenServices
) -> None:
    """Old connections stay silent for ever; new ones work after a while."""
    async with Proxy(nats_server.url) as proxy, services(proxy.url) as both:
        await both.start()
        await both.store_workflow()
        run, _ = await both.start_run()
        proxy.fall_silent()
        began = time.monotonic()
        await both.until_ready(ready=False)
        assert time.monotonic() - began < NOTICED_S
        proxy.speak()
        await both.until_ready()
        another, _ = await both.start_run()
        await both.all_completed([run, another])


@pytest.mark.timeout(400)
async def test_runs_go_on_while_one_of_three_nodes_is_frozen(
    tmp_path: Path, services: OpenServices, record_property: Callable[[str, object], None]
) -> None:
    """No start that is accepted waits longer than ten seconds, and every run completes.

    Each node stays frozen until runs complete without it.
    """
    with NatsCluster(tmp_path / "cluster") as cluster:
        async with services(cluster.url, nats_replicas="3") as both:
            await both.start()
            await both.store_workflow()
            started: list[tuple[str, float]] = []
            stopped = asyncio.Event()

            async def keep_starting() -> None:
                while not stopped.is_set():
                    started.append(await both.start_run())
                    await asyncio.sleep(_PAUSE_S)

            starting = [asyncio.create_task(keep_starting()) for _ in range(3)]
            for node in range(3):
                cluster.freeze(node)
                run = await _accepted_run(both)
                await both.all_completed([run])
                cluster.thaw(node)
                await both.until_ready()
            stopped.set()
            await asyncio.gather(*starting)
            accepted = [(run, took) for run, took in started if run]
            slowest = max(took for _, took in accepted)
            record_property("the slowest accepted start", f"{slowest:.1f} s")
            record_property("accepted and refused", f"{len(accepted)} of {len(started)}")
            assert slowest < NOTICED_S + _SLOW_MACHINE_S
            await both.all_completed([run for run, _ in accepted])


async def _reports_no_connection(both: ApiAndWorker) -> bool:
    """Tell whether the worker's metrics say that NATS does not answer."""
    metrics = await both.http.get(both.urls[1] + "/metrics")
    return "tailrace_nats_connected 0.0" in metrics.text


async def _accepted_run(both: ApiAndWorker) -> str:
    """Ask for a run until one is accepted; return its id."""
    while True:
        run, _ = await both.start_run()
        if run:
            return run
        await asyncio.sleep(_PAUSE_S)
