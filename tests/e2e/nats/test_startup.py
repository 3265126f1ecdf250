"""Services that are started before NATS is ready wait for it."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from harness.nats.cluster import NatsCluster
from harness.nats.server import NatsServer
from harness.processes.api_and_worker import OpenServices
from harness.processes.ports import free_port

ROUNDS = 3


async def test_services_wait_for_a_nats_that_comes_later(
    tmp_path: Path, services: OpenServices
) -> None:
    """They are live and not ready meanwhile, and streams are asked to come back."""
    server = NatsServer(tmp_path / "nats")
    async with services(server.url) as both:
        starting = asyncio.create_task(both.start())
        try:
            reasons = await both.until_ready(ready=False)
            assert reasons == ["this process waits for NATS", "this worker waits for NATS"]
            assert [status for status, _ in await both.probe("/healthz")] == [200, 200]
            refused = await both.http.post("/api/v1/workflows/flow/runs", json={})
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            sse = {"accept": "text/event-stream"}
            stream = await both.http.get("/api/v1/sse/executions/x/stream", headers=sse)
            assert stream.status_code == 200
            # No empty line follows, which some clients would take for an event.
            assert re.fullmatch(r"retry: \d+\n", stream.text)
            server.start()
            await starting
        finally:
            starting.cancel()
        await both.until_ready()
        await both.store_workflow()
        run, _ = await both.start_run()
        await both.all_completed([run])
        server.stop()


async def test_services_do_not_wait_for_ever(services: OpenServices) -> None:
    """They end with exit code 2 at the limit, and say what is missing."""
    url = f"nats://127.0.0.1:{free_port()}"
    async with services(url, nats_connect_timeout="1s") as both:
        with pytest.raises(RuntimeError, match="cannot reach NATS"):
            await both.start()


@pytest.mark.timeout(240)
async def test_services_start_together_with_a_new_cluster(
    tmp_path: Path, services: OpenServices
) -> None:
    """It has no leader at first, then too few peers. Two of each service create its streams."""
    for number in range(ROUNDS):
        cluster = NatsCluster(tmp_path / f"cluster-{number}")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(cluster.__exit__)
            cluster.launch()
            pairs = [
                await stack.enter_async_context(services(cluster.url, nats_replicas="3"))
                for _ in range(2)
            ]
            await asyncio.gather(*(pair.start() for pair in pairs))
            await asyncio.gather(*(pair.until_ready() for pair in pairs))
            await pairs[0].store_workflow()
            run, _ = await pairs[1].start_run()
            await pairs[0].all_completed([run])
