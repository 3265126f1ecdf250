"""The services work on NATS in a container."""

from pathlib import Path

import pytest

from harness.generators.workflows import definition
from harness.nats.container import docker_is_running
from harness.nats.deployment import NatsDeployment
from harness.processes.installation import Installation, installation
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
def test_ci_has_docker(request: pytest.FixtureRequest):
    """In CI a missing Docker engine is a failure, not a skipped test."""
    if not request.config.getoption("--require-docker"):
        pytest.skip("no Docker engine is required here; CI requires one")
    assert docker_is_running()
