"""The restore drill with the jobs of the chart."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from harness.campaigns.restore_drill import Drill
from harness.kubernetes.cluster import Cluster
from harness.kubernetes.release import Release

CLAIM: Final = "backups"
SECRET: Final = "backup-identity"
FORCE: Final = "--force-conflicts"
"""For Helm 4, where ``kubectl scale`` or an autoscaler has set the number of replicas."""


class ChartDrill(Drill):
    """The drill of a release."""

    def __init__(self, cluster: Cluster, release: Release) -> None:
        super().__init__(load_pause_s=0.3)
        self._cluster = cluster
        self._release = release
        self._address = release.address("api")

    @property
    def address(self) -> tuple[str, int]:
        return self._address, 80

    async def back_up(self) -> None:
        await asyncio.to_thread(self._back_up)

    async def lose_everything(self) -> None:
        await asyncio.to_thread(self._empty_volumes)

    async def restore(self) -> str:
        return await asyncio.to_thread(self._restore)

    async def resume(self) -> None:
        await asyncio.to_thread(self._release.upgrade, {"restore.file": ""})

    def _back_up(self) -> None:
        self._cluster.add_claim(self._release.name, CLAIM)
        recipient = str(self.identity.to_public())
        self._release.upgrade(
            {"backup.enabled": True, "backup.recipient": recipient, "backup.claimName": CLAIM}
        )
        cron_job = f"--from=cronjob/{self._release.name}-backup"
        self._release.kubectl("create", "job", cron_job, "backup")
        self._release.finish_job("backup")

    def _empty_volumes(self) -> None:
        """Empty the volumes of NATS; the number of API replicas was set by hand, too."""
        servers = f"statefulset/{self._release.name}-nats"
        api = f"deployment/{self._release.name}-api"
        self._release.kubectl("scale", api, "--replicas=2")
        self._release.kubectl("scale", servers, "--replicas=0")
        self._release.wait_until_gone("nats")
        for number in range(3):
            claim = f"data-{self._release.name}-nats-{number}"
            for path in self._cluster.volume(self._release.name, claim).iterdir():
                shutil.rmtree(path)
        self._release.kubectl("scale", servers, "--replicas=3")
        self._release.wait("statefulset", "nats")

    def _restore(self) -> str:
        key = f"--from-literal=identity={self.identity}"
        self._release.kubectl("create", "secret", "generic", SECRET, key)
        [backup] = self._cluster.volume(self._release.name, CLAIM).glob("*.age")
        self._release.upgrade(
            {
                "restore.file": backup.name,
                "restore.replace": True,  # workers have created their streams again
                "restore.identity.secretName": SECRET,
            },
            FORCE,
        )
        jobs = self._release.kubectl("get", "jobs", "-o", "name").split()
        [job] = (each for each in jobs if "-restore-" in each)
        return self._release.finish_job(job.partition("/")[2]).splitlines()[-1]


@pytest.fixture
async def drill(cluster: Cluster, release: Release) -> AsyncIterator[ChartDrill]:
    """The release, with the workflows of the drill."""
    opened = ChartDrill(cluster, release)
    await opened.prepare()
    yield opened
    await opened.http.aclose()


async def test_the_restore_drill_of_the_chart(
    release: Release, drill: ChartDrill, record_property: Callable[[str, Any], None]
):
    record_property("restore", await drill.carry_out())
    assert "Succeeded" in release.test()
