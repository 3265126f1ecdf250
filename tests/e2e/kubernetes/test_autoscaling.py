"""Workers come with demand, and go with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from harness.kubernetes.cluster import Cluster
from harness.kubernetes.release import Release
from harness.kubernetes.scaler import Scaler
from harness.kubernetes.traffic import Row
from harness.processes.polling import until

POOL: Final = "workers.default.autoscaling"
MOST: Final = 3
Observe = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Row]]


async def test_workers_scale_from_zero_and_back(
    cluster: Cluster, release: Release, observe: Observe
):
    """The signal is that of the chart's ScaledObject; what reads it is a small scaler of ours."""
    cluster.define("keda.sh", "v1alpha1", "ScaledObject")
    await asyncio.to_thread(
        release.upgrade,
        {
            f"{POOL}.enabled": True,
            f"{POOL}.minReplicas": 0,
            f"{POOL}.maxReplicas": MOST,
            f"{POOL}.demandPerWorker": 20,
        },
    )
    scaler = Scaler(cluster, release)
    scaling = asyncio.create_task(scaler.run())

    async def has(pods: int) -> bool:
        if scaling.done():
            scaling.result()
        return len(await asyncio.to_thread(release.pods, "worker-default")) == pods

    try:
        await until(lambda: has(0), 300)
        row = await observe("workers 0 → 3 → 0 by demand", lambda: until(lambda: has(MOST), 300))
        await until(lambda: has(0), 300)
    finally:
        scaling.cancel()
        await asyncio.to_thread(release.upgrade, {f"{POOL}.enabled": False}, "--force-conflicts")
    assert len(release.pods("worker-default")) == 2
    assert row.is_undisturbed, row
    assert max(scaler.replicas["demo-worker-default"]) == MOST
