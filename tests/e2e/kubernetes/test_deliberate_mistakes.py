"""Clients notice releases that are broken on purpose."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from harness.kubernetes.chart import helm_program
from harness.kubernetes.cluster import Cluster
from harness.kubernetes.release import Release, changed_chart
from harness.kubernetes.traffic import Row
from harness.processes.polling import until
from tools.chart_schema import CHART
from tools.kubernetes_tools import FOLDER

DEPLOYMENT: Final = "api/deployment.yaml"
PULL_POLICY: Final = "          imagePullPolicy: {{ .Values.images.pullPolicy }}\n"
KILLS_AT_ONCE: Final = (
    "import signal, subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'tailrace_api']); "
    "signal.signal(signal.SIGTERM, lambda *_: p.kill()); sys.exit(p.wait())"
)
"""A parent that does not pass SIGTERM on."""
BROKEN_RELEASES: Final = {
    "no drain": (
        PULL_POLICY,
        f'{PULL_POLICY}          command: [python3, -c, "{KILLS_AT_ONCE}"]\n',
    ),
    "a grace period of a second": (
        "terminationGracePeriodSeconds: {{ $grace }}",
        "terminationGracePeriodSeconds: 1",
    ),
}
SEEDED: Final = (
    "{{- else if not $api.autoscaling.enabled }}",
    "{{- else if or (not $api.autoscaling.enabled) .Release.IsInstall }}",
)
"""The number of replicas at the installation only."""

REPLICAS: Final = 'jsonpath={.spec.replicas} {.metadata.annotations.seen}{"\\n"}'
Observe = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Row]]


@pytest.mark.parametrize("broken", BROKEN_RELEASES)
async def test_a_broken_end_of_pods_disturbs_clients(
    release: Release, observe: Observe, tmp_path: Path, broken: str
):
    release.chart = changed_chart(tmp_path, (DEPLOYMENT, *BROKEN_RELEASES[broken]))
    try:
        release.upgrade({"images.api.tag": "0.3.0"})
        changes = {"images.api.tag": "0.3.0-b"}
        row = await observe(broken, lambda: asyncio.to_thread(release.upgrade, changes))
    finally:
        release.chart = CHART
        release.upgrade({})
    assert row.torn > 0
    assert not row.is_undisturbed


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "seeded replicas"])
async def test_an_upgrade_keeps_the_replicas_of_the_autoscaler(
    cluster: Cluster, tmp_path: Path, values: dict[str, Any], is_broken: bool
):
    """The broken chart renders them at the installation only, and so drops to one replica."""
    name = "seeded" if is_broken else "scaled"
    autoscaling = {"enabled": True, "minReplicas": 2}
    small = {
        **values,
        "nats": {"replicas": 1, "bundled": {**values["nats"]["bundled"], "servers": 1}},
        "api": {**values["api"], "autoscaling": autoscaling},
        "workers": {"default": {"replicas": 1}},
    }
    chart = changed_chart(tmp_path, (DEPLOYMENT, *SEEDED)) if is_broken else CHART
    release = Release(cluster, helm_program(), name, small, chart)
    release.install()
    try:
        replicas = await _replicas_during(cluster, name, release)
    finally:
        release.uninstall()
    assert (min(replicas) == 1) is is_broken


async def _replicas_during(cluster: Cluster, name: str, release: Release) -> list[int]:
    """Return the numbers of replicas that an upgrade gives the API, in order."""
    deployment = f"deployment/{name}-api"

    async def has_scaled() -> bool:
        found = await asyncio.to_thread(release.kubectl, "get", deployment, "-o", REPLICAS)
        return int(found.split()[0]) > 1  # the least of the autoscaler, or the seeded number

    await until(has_scaled, 120)
    watch = await asyncio.create_subprocess_exec(
        *(str(FOLDER / "kubectl"), "--kubeconfig", str(cluster.config), "-n", name),
        *("get", deployment, "--watch", "-o", REPLICAS),
        stdout=asyncio.subprocess.PIPE,
    )
    assert watch.stdout is not None
    try:
        async with asyncio.timeout(900):
            lines = [(await watch.stdout.readline()).decode()]
            await asyncio.to_thread(release.upgrade, {"images.api.tag": "0.3.0-b"})
            await asyncio.to_thread(release.kubectl, "annotate", deployment, "seen=upgraded")
            while "upgraded" not in lines[-1]:
                lines.append((await watch.stdout.readline()).decode())
    finally:
        watch.kill()
        await watch.wait()
    return [int(line.split()[0]) for line in lines]
