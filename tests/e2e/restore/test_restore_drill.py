"""The restore drill with processes. That of the chart is in ``e2e/kubernetes``."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import nats
import pytest

from harness.campaigns.restore_drill import Drill
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.service import Service
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import without_server_metadata
from tailrace_shared.nats.topology import EPOCH_KEY, EVENTS
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

pytestmark = pytest.mark.timeout(600)  # four services start, on a machine that may be busy

EVENTS_INFO: Final = f"STREAM.INFO.{Subjects(CommonSettings().prefix).stream(EVENTS)}"


class ProcessDrill(Drill):
    """The drill of an API replica and a worker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(load_pause_s=0.05)
        self.folder = folder
        self.nats = NatsServer(folder / "nats")
        self._services: list[Service] = []
        self.api: ApiProcess

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.api.port

    def start(self) -> None:
        """Start an API replica and a worker."""
        self.api = ApiProcess(self.nats.url, self.folder)
        environment = {"NATS_URL": self.nats.url, "TAILRACE_ACK_WAIT": "2s"}
        worker = Service("tailrace_worker", environment, self.folder / f"worker-{time.time()}.log")
        self._services = [self.api.start(), worker.start()]

    def kill(self) -> None:
        """Kill them."""
        for service in self._services:
            service.kill()

    async def back_up(self) -> None:
        recipient = str(self.identity.to_public())
        await asyncio.to_thread(
            self.admin, "backup", str(self.folder / "backup.age"), "--recipient", recipient
        )

    async def lose_everything(self) -> None:
        self.kill()
        self.nats.stop()
        shutil.rmtree(self.nats.folder / "store")

    async def restore(self) -> str:
        key = self.folder / "key.txt"
        key.write_text(f"# created by a test\n{self.identity}\n")
        self.nats.start()
        return await asyncio.to_thread(
            self.admin, "restore", str(self.folder / "backup.age"), "--identity-file", str(key)
        )

    async def resume(self) -> None:
        self.start()

    def admin(self, *arguments: str) -> str:
        """Run a command of the operator; return its standard output."""
        ended = subprocess.run(
            [sys.executable, "-m", "tailrace_shared.admin", *arguments],
            env={"PATH": "/usr/bin:/bin", "NATS_URL": self.nats.url},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
async def drill(tmp_path: Path) -> AsyncIterator[ProcessDrill]:
    """An installation with workflows."""
    opened = ProcessDrill(tmp_path)
    with opened.nats:
        opened.start()
        await opened.prepare()
        yield opened
        await opened.http.aclose()
        opened.kill()


async def test_the_restore_drill(
    drill: ProcessDrill, record_property: Callable[[str, Any], None]
) -> None:
    """No client loses an event that the backup has, and none is left with one that it has not."""
    record_property("restore", await drill.carry_out())


async def test_a_restore_that_loses_the_epoch_fails_the_drill(
    drill: ProcessDrill, monkeypatch: pytest.MonkeyPatch
):
    """Then ids of before name other events, and every client is reset."""
    whole = drill.restore

    async def broken() -> str:
        text = await whole()
        await _forget_epoch(drill.nats.url)
        return text

    monkeypatch.setattr(drill, "restore", broken)
    with pytest.raises(AssertionError, match="restored"):
        await drill.carry_out()


async def _forget_epoch(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    jetstream = JetStream(client)
    info = await jetstream.api(EVENTS_INFO)
    metadata = without_server_metadata(info["config"]["metadata"])
    del metadata[EPOCH_KEY]
    body = {**info["config"], "metadata": metadata}
    await jetstream.api(EVENTS_INFO.replace("INFO", "UPDATE"), body)
    await client.close()
