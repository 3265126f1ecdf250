"""The services work on NATS in a container."""

from pathlib import Path

import pytest

from harness.generators.workflows import definition
from harness.nats.container import docker_is_running
from harness.nats.deployment import NatsDeployment
from harness.processes.installation import Installation, installation
from harness.processes.required_tools import skip_or_fail
from tailrace_shared.execution.state import fold


async def test_a_run_completes_on_the_shared_nats(shared_nats: NatsDeployment, tmp_path: Path):
    """Streams, buckets, jobs and the log work in a container, or in a process without Docker."""
    async with installation(shared_nats, tmp_path) as site:
        await run_one(site)


async def run_one(site: Installation) -> None:
    """Run two steps on a worker of this installation."""
    site.worker()
    stored = await site.store(definition({"a": {}, "b": {"needs": ["a"]}}))
    assert fold(await site.finished(await site.start(stored))).status == "completed"


@pytest.mark.docker
def test_the_shared_nats_is_a_container():
    """Without Docker it is a process; in CI that is a failure."""
    if not docker_is_running():
        skip_or_fail("a Docker engine", "start containerd and dockerd")
