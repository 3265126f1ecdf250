"""API replicas come with open streams, and go with them."""

import asyncio
import itertools
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from harness.kubernetes.chart import helm_program
from harness.kubernetes.cluster import NODE_IP, Cluster
from harness.kubernetes.metrics_adapter import MetricsAdapter
from harness.kubernetes.release import Release, changed_chart
from harness.processes.polling import until
from harness.sse.held_streams import HeldStreams

STREAMS: Final = 3000
STREAMS_PER_POD: Final = 800
FEWEST: Final = 2
MOST: Final = 4
PATIENCE_S: Final = 300.0
WAITING: Final[dict[str, Any]] = {
    "id": "waiting",
    "nodes": {"wait": {"type": "await", "with": {"reason": "approval"}}},
}


@pytest.fixture
def release(cluster: Cluster, values: dict[str, Any], tmp_path: Path) -> Release:
    """Install the chart with an autoscaler whose windows are 20 s instead of 10 min."""
    chart = changed_chart(
        tmp_path,
        (
            "api/autoscaler.yaml",
            "stabilizationWindowSeconds: 600",
            "stabilizationWindowSeconds: 20",
        ),
        ("api/autoscaler.yaml", "value: 1, periodSeconds: 120", "value: 1, periodSeconds: 5"),
    )
    scaling = {
        "enabled": True,
        "minReplicas": FEWEST,
        "maxReplicas": MOST + 2,
        "cpuPercent": 0,
        "streamsPerPod": STREAMS_PER_POD,
    }
    api = {**values["api"], "autoscaling": scaling}
    return Release(cluster, helm_program(), "scaled", {**values, "api": api}, chart)


async def test_replicas_follow_open_streams(cluster: Cluster, release: Release, tmp_path: Path):
    """From none to 3,000 and back; the number of replicas changes its direction once."""
    release.install()
    host = release.address("api")
    seen: list[int] = []

    def replicas() -> int:
        [autoscaler] = cluster.get("hpa", f"{release.name}-api", "-n", release.name)
        wanted = int(autoscaler["status"].get("desiredReplicas") or 0)
        if wanted and (not seen or seen[-1] != wanted):
            seen.append(wanted)
        return wanted

    async def has(pods: int) -> bool:
        return await asyncio.to_thread(replicas) == len(release.pods("api")) == pods

    async def until_has(pods: int) -> None:
        try:
            await until(lambda: has(pods), PATIENCE_S)
        except TimeoutError:
            pytest.fail(release.kubectl("describe", "hpa"))

    with MetricsAdapter(cluster, tmp_path, NODE_IP, "tailrace_api_streams", 8081):
        await until_has(FEWEST)
        async with HeldStreams(host, 80, await _waiting_run(host), STREAMS) as streams:
            await asyncio.wait_for(streams.all_open(), PATIENCE_S)
            await until_has(MOST)
            await asyncio.to_thread(release.wait, "deployment", "api")
            assert streams.open == STREAMS
        await until_has(FEWEST)
    release.uninstall()
    rises = [after > before for before, after in itertools.pairwise(seen)]
    assert rises == sorted(rises, reverse=True), seen
    assert max(seen) == MOST


async def _waiting_run(host: str) -> str:
    """Start a run that waits; return the path of its stream."""
    async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False, timeout=60) as http:
        (await http.put("/api/v1/workflows/waiting", json=WAITING)).raise_for_status()
        answer = await http.post("/api/v1/workflows/waiting/runs", json={})
        answer.raise_for_status()
        return f"/api/v1/sse/executions/{answer.json()['execution_id']}/stream"
