"""Clients of a release miss nothing while it is upgraded, scaled, rolled back, or loses pods.

The tests go on from each other's release. Each prints a row of the table in docs/operations.md.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from harness.http.proxies import Proxy, envoy
from harness.kubernetes.cluster import Cluster, Resource
from harness.kubernetes.release import Release, container_of
from harness.kubernetes.traffic import LONGEST_GAP_S, Row
from harness.processes.polling import until
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

EVENTS_INFO: Final = f"STREAM.INFO.{Subjects(CommonSettings().prefix).stream(EVENTS)}"
WORKER: Final = "worker-default"

Observe = Callable[..., Awaitable[Row]]


def test_the_chart_installs_and_passes_its_own_test(release: Release):
    assert "Succeeded" in release.test()
    assert len(release.pods("api")) == 3
    assert len(release.pods(WORKER)) == 2


async def test_topology_job_replicates_streams(release: Release, observe: Observe):
    """Leaders move meanwhile, so that some starts have to be repeated."""
    await observe(
        "one copy of the data → three (topology job)",
        lambda: asyncio.to_thread(release.upgrade, {"nats.replicas": 3}),
    )
    async with release.jetstream() as jetstream:
        events = await jetstream.api(EVENTS_INFO)
    assert len(events["cluster"]["replicas"]) == 2


@pytest.mark.parametrize(
    ("phase", "changes"),
    [
        ("rollout of the API", {"images.api.tag": "0.3.0-b"}),
        ("rollout of the workers", {"images.worker.tag": "0.3.0-b"}),
    ],
)
async def test_rollouts_lose_nothing(
    release: Release, observe: Observe, phase: str, changes: dict[str, str]
):
    row = await observe(phase, lambda: asyncio.to_thread(release.upgrade, changes))
    assert row.is_undisturbed, row


async def test_upgrade_and_rollback_lose_nothing(release: Release, observe: Observe):
    tags = {"images.api.tag": "0.3.0-c", "images.worker.tag": "0.3.0-c"}

    async def there_and_back() -> None:
        await asyncio.to_thread(release.upgrade, tags)
        await asyncio.to_thread(release.rollback)

    row = await observe("upgrade of API and workers, and rollback", there_and_back)
    assert row.is_undisturbed, row


async def test_a_rollout_behind_envoy_loses_nothing(
    release: Release, observe: Observe, tmp_path: Path
):
    """Envoy cannot repeat a start that it has sent on a connection which a pod closes meanwhile.

    It answers with 503 then, so such a start counts as refused, and only streams are judged.
    """
    to_service = functools.partial(envoy, host=release.address("api"))
    with Proxy(to_service, 80, tmp_path / "envoy") as gateway:
        row = await observe(
            "rollout of the API behind Envoy",
            lambda: asyncio.to_thread(release.upgrade, {"images.api.tag": "0.3.0-c"}),
            gateway=gateway.port,
        )
    assert row.torn == 0, row
    assert row.gap(0.99) < LONGEST_GAP_S, row


async def test_scaling_loses_nothing(release: Release, observe: Observe):
    async def scale() -> None:
        for replicas in (6, 2, 3):
            await asyncio.to_thread(
                release.kubectl, "scale", "deployment/demo-api", f"--replicas={replicas}"
            )
            await asyncio.to_thread(release.wait, "deployment", "api")

            async def is_scaled(wanted: int = replicas) -> bool:
                return len(await asyncio.to_thread(release.pods, "api")) == wanted

            await until(is_scaled, 300)

    row = await observe("scaling of the API 3 → 6 → 2 → 3", scale)
    assert row.is_undisturbed, row


async def test_one_of_two_evictions_is_refused(release: Release, observe: Observe):
    """They arrive together, so that no pod takes the place of the first one in between."""

    async def evict() -> None:
        for component in ("api", WORKER):

            async def may_evict(component: str = component) -> bool:
                return await asyncio.to_thread(release.allowed_disruptions, component) == 1

            await until(may_evict, 300)
            names = [each["metadata"]["name"] for each in release.pods(component)[:2]]
            both = (asyncio.to_thread(release.evict, name) for name in names)
            assert sorted(await asyncio.gather(*both)) == [False, True]
            await asyncio.to_thread(release.wait, "deployment", component)

    row = await observe("evictions through the disruption budgets", evict)
    assert row.is_undisturbed, row


async def test_killed_pods_lose_nothing(cluster: Cluster, release: Release, observe: Observe):
    async def kill() -> None:
        for component in ("api", WORKER, "api", WORKER):
            victim = release.pods(component)[0]
            await asyncio.to_thread(cluster.kill, container_of(victim))
            await _until_replaced(release, victim)

    await observe("SIGKILL of two API replicas and two workers", kill)


async def _until_replaced(release: Release, victim: Resource) -> None:
    """Wait until a pod has another container, which is ready."""
    name = victim["metadata"]["name"]
    component = victim["metadata"]["labels"]["app.kubernetes.io/component"]

    async def is_replaced() -> bool:
        pods = await asyncio.to_thread(release.pods, component)
        return any(
            pod["metadata"]["name"] == name
            and container_of(pod) != container_of(victim)
            and bool(pod["status"]["containerStatuses"][0]["ready"])
            for pod in pods
        )

    await until(is_replaced, 300)


async def test_a_worker_out_of_memory_loses_nothing(
    cluster: Cluster, release: Release, observe: Observe
):
    victim = release.pods(WORKER)[0]

    async def exhaust() -> None:
        await asyncio.to_thread(cluster.exhaust_memory, container_of(victim))
        await _until_replaced(release, victim)

    await observe("a worker out of memory", exhaust)
    [pod] = (
        each
        for each in release.pods(WORKER)
        if each["metadata"]["name"] == victim["metadata"]["name"]
    )
    [status] = pod["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"


async def test_a_node_that_is_not_ready_loses_nothing(
    cluster: Cluster, release: Release, observe: Observe
):
    """The only node: its pods go on, and no Service has an endpoint."""

    async def is_ready(wanted: bool) -> bool:
        [node] = await asyncio.to_thread(cluster.get, "nodes")
        conditions = {each["type"]: str(each["status"]) for each in node["status"]["conditions"]}
        return (conditions["Ready"] == "True") is wanted

    async def freeze() -> None:
        cluster.freeze_node()
        try:
            await until(lambda: is_ready(wanted=False), 300)
            await asyncio.sleep(60)  # what is observed: a minute without the node
        finally:
            cluster.thaw_node()
        await until(lambda: is_ready(wanted=True), 300)
        for component in ("api", WORKER):
            await asyncio.to_thread(release.wait, "deployment", component)

    await observe("the node not ready for a minute", freeze)


async def test_a_rollout_of_nats_loses_nothing(release: Release, observe: Observe):
    async def restart() -> None:
        await asyncio.to_thread(release.kubectl, "rollout", "restart", "statefulset/demo-nats")
        await asyncio.to_thread(release.wait, "statefulset", "nats")

    await observe("rollout of three NATS servers", restart)


async def test_a_killed_leader_of_nats_loses_nothing(
    cluster: Cluster, release: Release, observe: Observe
):
    async def kill() -> None:
        async with release.jetstream() as jetstream:
            events = await jetstream.api(EVENTS_INFO)
        leader = events["cluster"]["leader"]
        [victim] = (each for each in release.pods("nats") if each["metadata"]["name"] == leader)
        await asyncio.to_thread(cluster.kill, container_of(victim))
        await _until_replaced(release, victim)

    await observe("SIGKILL of the NATS server that leads the log", kill)


def test_the_installation_is_healthy_after_all(release: Release):
    assert "Succeeded" in release.test()
