"""A release of version 0.2.0 becomes one of this version by ``helm upgrade``, and goes back.

Version 0.2.0 had no chart. This one installs it, without what 0.2.0 does not know: the internal
port, and the file with the token of NATS.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from harness.kubernetes.chart import helm_program
from harness.kubernetes.cluster import Cluster
from harness.kubernetes.image_archive import add_files
from harness.kubernetes.release import Release, changed_chart
from harness.kubernetes.traffic import Row
from harness.processes.polling import until
from harness.processes.previous_release import SOURCES, unpack_previous_release
from tools.chart_schema import CHART

_PAUSE_S: Final = 0.2
OLD: Final = "0.2.0"
NEW: Final = {"images.api.tag": "0.3.0", "images.worker.tag": "0.3.0"}
ENVIRONMENT: Final = "_environment.tpl"
API: Final = "api/deployment.yaml"
LIMIT: Final = (
    "TAILRACE_MAX_STORE_BYTES: {{ div (mul .Values.nats.bundled.storageGiB 1073741824 75) 100 "
    "| quote }}\n"
)
URL: Final = 'NATS_URL: {{ include "tailrace.natsUrl" . | quote }}\n'
URL_WITH_TOKEN: Final = 'NATS_URL: "nats://$(A_NATS_TOKEN)@older-nats:4222"\n'
VARIABLES: Final = "{{- range $name, $value := $env }}\n"
TOKEN: Final = "- {name: A_NATS_TOKEN, valueFrom: {secretKeyRef: {name: older-nats, key: token}}}\n"
PROBES: Final = '{{- include "tailrace.probes" . | nindent 10 }}'
WITHOUT_NEWS: Final = [
    (ENVIRONMENT, "TAILRACE_NATS_TOKEN_FILE: /etc/tailrace/nats/token\n", ""),
    (ENVIRONMENT, LIMIT, ""),
    (ENVIRONMENT, URL, URL_WITH_TOKEN),
    (ENVIRONMENT, VARIABLES, TOKEN + VARIABLES),
    (API, PROBES, PROBES.replace(" . |", ' . | replace "internal" "http" |')),
    (ENVIRONMENT, "TAILRACE_INTERNAL_HOST: 0.0.0.0\n", ""),
    (ENVIRONMENT, 'TAILRACE_INTERNAL_PORT: "8081"\n', ""),
]
"""Texts of the chart, and what takes their place."""

APPROVAL: Final = {
    "ask": {"type": "await", "with": {"reason": "approval"}},
    "after": {"type": "log", "needs": ["ask"], "with": {"message": "x"}},
}
TICK: Final = {"a": {"type": "log", "with": {"message": "x"}}}
ObserveRelease = Callable[..., Awaitable[Row]]


@pytest.fixture
def older(cluster: Cluster, images: list[Path], values: dict[str, Any], tmp_path: Path) -> Release:
    """Install version 0.2.0: two API replicas, two workers, one NATS server."""
    unpack_previous_release(tmp_path / "sources")
    files = {
        f"older/{path.relative_to(tmp_path / 'sources')}": path
        for path in sorted((tmp_path / "sources").rglob("*"))
        if path.is_file()
    }
    path = ":".join([*(f"/older/{source}" for source in SOURCES), "/app"])
    for source in images[:2]:
        reference = f"docker.io/tailrace/{source.stem}:{OLD}"
        target = tmp_path / source.name
        cluster.add_image(add_files(source, target, reference, files, [f"PYTHONPATH={path}"]))
    small = {
        **values,
        "images": {**values["images"], "api": {"tag": OLD}, "worker": {"tag": OLD}},
        "nats": {"replicas": 1, "bundled": {**values["nats"]["bundled"], "servers": 1}},
        "api": {**values["api"], "replicas": 2},
    }
    release = Release(
        cluster, helm_program(), "older", small, changed_chart(tmp_path, *WITHOUT_NEWS)
    )
    release.install()
    release.chart = CHART
    return release


async def test_an_upgrade_from_the_previous_release_and_back_loses_nothing(
    older: Release, observe_release: ObserveRelease
):
    """Runs that wait for an approval, timers and schedules go on in each version."""
    url = f"http://{older.address('api')}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        for name, nodes in (("approval", APPROVAL), ("tick", TICK)):
            await _ask(http, "PUT", f"/api/v1/workflows/{name}", {"nodes": nodes})
        every = {"id": "tick", "workflow_id": "tick", "cron": "@every 3s"}
        await _ask(http, "POST", "/api/v1/schedules", every)
        approvals = [await _start_approval(http)]

        async def there_and_back() -> None:
            for stage in (
                functools.partial(older.upgrade, {**NEW, "topologyJob.enabled": False}),
                functools.partial(older.upgrade, {"topologyJob.enabled": True}),
                functools.partial(_roll_back, older),
                functools.partial(older.upgrade, {**NEW, "topologyJob.enabled": False}),
                functools.partial(older.upgrade, {"topologyJob.enabled": True}),
            ):
                await asyncio.to_thread(stage)
                await _until_next_tick(http)
                approvals.append(await _start_approval(http))

        phase = "0.2.0 → this version → 0.2.0 → this version"
        await observe_release(older, phase, there_and_back, has_previous_release=True)
        for execution in approvals:
            await _approve(http, execution)
    assert "Succeeded" in older.test()
    older.uninstall()


def _roll_back(release: Release) -> None:
    """Go back to 0.2.0, which starts with its own topology only."""
    release.kubectl(
        *("exec", f"deployment/{release.name}-api", "--", "python3", "-m", "tailrace_shared.admin"),
        *("topology", "apply", "--version", "1"),
    )
    release.rollback("1")


async def _ask(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    """Send a request; repeat it while a replica ends, or NATS moves a leader."""
    headers = {"Idempotency-Key": uuid4().hex}
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await http.request(method, path, json=body, headers=headers)
            if answer.status_code not in (502, 503, 504):
                assert answer.is_success, answer.text
                return answer.json()
        await asyncio.sleep(_PAUSE_S)


async def _start_approval(http: httpx.AsyncClient) -> str:
    started = await _ask(http, "POST", "/api/v1/workflows/approval/runs", {})
    return str(started["execution_id"])


async def _approve(http: httpx.AsyncClient, execution: str) -> None:
    """Approve a run, which then completes."""
    path = f"/api/v1/executions/{execution}"
    await _ask(http, "POST", f"{path}/resume", {"decision": "approved"})

    async def has_completed() -> bool:
        return bool((await _ask(http, "GET", path))["status"] == "completed")

    await until(has_completed, 120)


async def _until_next_tick(http: httpx.AsyncClient) -> None:
    """Wait until the schedule has started another run."""

    async def newest() -> str:
        runs = (await _ask(http, "GET", "/api/v1/workflows/tick/runs"))["runs"]
        return str(runs[0]["execution_id"]) if runs else ""

    before = await newest()

    async def has_ticked() -> bool:
        return await newest() != before

    await until(has_ticked, 120)
