"""The restore drill: back up under load, lose every volume, restore.

Clients go on after their last id. Those that had events from after the backup get a reset, and the
whole execution again. Every run that the backup knows ends.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import nats
import pyrage
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.service import Service
from harness.sse.client import SseEvent, follow
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import without_server_metadata
from tailrace_shared.nats.topology import EPOCH_KEY, EVENTS
from tailrace_shared.position import StreamPosition
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

pytestmark = pytest.mark.timeout(600)  # four services start, on a machine that may be busy

EVENTS_INFO: Final = f"STREAM.INFO.{Subjects(CommonSettings().prefix).stream(EVENTS)}"

WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "quick": {"nodes": {"a": {"type": "log", "with": {"message": "x"}}}},
    "approval": {
        "nodes": {
            "before": {"type": "transform", "with": {"value": "x" * 300_000}},
            "ask": {"type": "await", "needs": ["before"], "with": {"reason": "approval"}},
            "after": {
                "type": "transform",
                "needs": ["ask"],
                "with": {"value": "${size(nodes.before.output)}"},
            },
        }
    },
    "timer": {
        "concurrency": {"limit": 3},
        "nodes": {
            "wait": {"type": "delay", "with": {"duration": "6s"}},
            "after": {"type": "log", "needs": ["wait"], "with": {"message": "x"}},
        },
    },
}


class Drill:
    """One installation, and clients that follow its runs.

    Attributes:
        workflows: the workflow of each run.
        received: the events of the log that the client of each run has received, in order.
        resets: the runs whose client got a ``stream:reset``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats = NatsServer(folder / "nats")
        self.workflows: dict[str, str] = {}
        self.received: dict[str, list[SseEvent]] = {}
        self.resets: set[str] = set()
        self._services: list[Service] = []
        self.api: ApiProcess
        self.http: httpx.AsyncClient

    def start(self) -> None:
        """Start an API replica and a worker."""
        self.api = ApiProcess(self.nats.url, self.folder)
        environment = {"NATS_URL": self.nats.url, "TAILRACE_ACK_WAIT": "2s"}
        worker = Service("tailrace_worker", environment, self.folder / f"worker-{time.time()}.log")
        self._services = [self.api.start(), worker.start()]
        self.http = httpx.AsyncClient(base_url=self.api.url, timeout=60)

    def kill(self) -> None:
        """Kill them."""
        for service in self._services:
            service.kill()

    async def run(self, workflow: str) -> str:
        """Start a run; return its id."""
        answer = await self.http.post(f"/api/v1/workflows/{workflow}/runs", json={"input": {}})
        assert answer.status_code == 202, answer.text
        execution: str = answer.json()["execution_id"]
        self.workflows[execution], self.received[execution] = workflow, []
        return execution

    async def approve(self, execution: str) -> None:
        """Approve what a run waits for."""
        answer = await self.http.post(
            f"/api/v1/executions/{execution}/resume", json={"decision": "approved"}
        )
        assert answer.status_code == 202, answer.text

    async def watch(self, execution: str) -> None:
        """Follow a run from the last id of its client, until its end or the end of the API."""
        received = self.received[execution]
        last = received[-1].id if received else ""
        with contextlib.suppress(OSError):
            async with follow(self.api.port, execution, last) as stream:
                async for event in stream:
                    if event.type == "stream:reset":
                        assert event.json()["reason"] == "restored"
                        self.resets.add(execution)
                        received.clear()
                    elif event.is_logged:
                        received.append(event)

    async def log(self, execution: str) -> list[str] | None:
        """Return the ids of the events of a run; None if there is none."""
        path = f"/api/v1/workflows/{self.workflows[execution]}/runs/{execution}"
        answer = await self.http.get(path, params={"include_logs": "true"})
        return [each["id"] for each in answer.json()["logs"]] if answer.status_code == 200 else None

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
async def drill(tmp_path: Path) -> AsyncIterator[Drill]:
    """An installation with workflows."""
    opened = Drill(tmp_path)
    with opened.nats:
        opened.start()
        for name, workflow in WORKFLOWS.items():
            answer = await opened.http.put(f"/api/v1/workflows/{name}", json=workflow)
            assert answer.status_code < 300, answer.text
        yield opened
        await opened.http.aclose()
        opened.kill()


async def _until(condition: Callable[[], Any]) -> None:
    """Wait for what clients receive."""
    async with asyncio.timeout(300):
        while not condition():  # noqa: ASYNC110 - many events of many clients
            await asyncio.sleep(0.05)


async def test_the_restore_drill(drill: Drill, record_property: Callable[[str, Any], None]) -> None:
    """No client loses an event that the backup has, and none is left with one that it has not."""
    yearly = {"id": "yearly", "workflow_id": "quick", "cron": "0 30 4 1 1 *"}
    assert (await drill.http.post("/api/v1/schedules", json=yearly)).status_code == 201
    waiting = [await drill.run("approval") for _ in range(4)]
    timers = [await drill.run("timer") for _ in range(5)]
    watching = [asyncio.create_task(drill.watch(each)) for each in (*waiting, *timers)]
    await _until(lambda: all(_has(drill, each, "step:waiting") for each in waiting))
    assert (await drill.http.get("/api/v1/schedules")).json()["schedules"]

    # Load, while the backup is taken.
    is_loaded = True

    async def load() -> None:
        while is_loaded:
            execution = await drill.run("quick")
            watching.append(asyncio.create_task(drill.watch(execution)))
            await asyncio.sleep(0.05)

    loading = [asyncio.create_task(load()) for _ in range(2)]
    await _until(lambda: len(drill.received) > 20)
    identity = pyrage.x25519.Identity.generate()
    backup, key = drill.folder / "backup.age", drill.folder / "key.txt"
    key.write_text(f"# created by a test\n{identity}\n")
    recipient = str(identity.to_public())
    await asyncio.to_thread(drill.admin, "backup", str(backup), "--recipient", recipient)

    # What happens after the backup is lost: two approvals and some runs.
    count = len(drill.received)
    await _until(lambda: len(drill.received) > count + 5)
    is_loaded = False
    await asyncio.gather(*loading)
    for execution in waiting[:2]:
        await drill.approve(execution)
    lost = await drill.run("quick")
    watching.append(asyncio.create_task(drill.watch(lost)))
    ended = [lost, *waiting[:2]]
    await _until(lambda: all(_has(drill, each, "execution:completed") for each in ended))
    drill.kill()
    await asyncio.gather(*watching)
    drill.nats.stop()
    shutil.rmtree(drill.nats.folder / "store")

    began = time.monotonic()
    drill.nats.start()
    text = await asyncio.to_thread(drill.admin, "restore", str(backup), "--identity-file", str(key))
    record_property("restore", f"{time.monotonic() - began:.1f} s: {text.strip()}")
    drill.start()
    watching = [asyncio.create_task(drill.watch(each)) for each in drill.received]
    await asyncio.gather(*map(drill.approve, waiting))
    async with asyncio.timeout(300):
        await asyncio.gather(*watching)

    await _check_clients(drill, lost, waiting)
    await _check_derived(drill, waiting)


async def test_a_restore_that_loses_the_epoch_fails_the_drill(
    drill: Drill, record_property: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch
):
    """Then ids of before name other events, and every client is reset."""
    whole = drill.admin

    def broken(*arguments: str) -> str:
        text = whole(*arguments)
        if arguments[0] == "restore":
            asyncio.run(_forget_epoch(drill.nats.url))
        return text

    monkeypatch.setattr(drill, "admin", broken)
    with pytest.raises(AssertionError, match="restored"):
        await test_the_restore_drill(drill, record_property)


async def _forget_epoch(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    jetstream = JetStream(client)
    info = await jetstream.api(EVENTS_INFO)
    metadata = without_server_metadata(info["config"]["metadata"])
    del metadata[EPOCH_KEY]
    body = {**info["config"], "metadata": metadata}
    await jetstream.api(EVENTS_INFO.replace("INFO", "UPDATE"), body)
    await client.close()


async def _check_clients(drill: Drill, lost: str, waiting: list[str]) -> None:
    """Check that a client missed nothing, or began again because it knew what is lost."""
    for execution, received in drill.received.items():
        log = await drill.log(execution)
        assert [event.id for event in received] == (log or []), execution
        if log is None:
            assert execution in drill.resets
        else:
            assert received[-1].type == "execution:completed"
    assert {lost, *waiting[:2]} <= drill.resets
    assert not drill.resets & {*waiting[2:]}
    assert await drill.log(lost) is None
    first = StreamPosition.parse(drill.received[waiting[0]][0].id)
    last = StreamPosition.parse(drill.received[waiting[0]][-1].id)
    assert first is not None
    assert last is not None
    assert first.epoch == last.epoch
    assert last.sequence > first.sequence + 10_000_000


async def _check_derived(drill: Drill, waiting: list[str]) -> None:
    """Check that lists, schedules and new runs work."""
    runs = (await drill.http.get("/api/v1/workflows/approval/runs")).json()
    assert {run["execution_id"] for run in runs["runs"]} == {*waiting}
    [schedule] = (await drill.http.get("/api/v1/schedules")).json()["schedules"]
    assert schedule["id"] == "yearly"
    new = await drill.run("timer")
    await drill.watch(new)
    assert _has(drill, new, "execution:completed")


def _has(drill: Drill, execution: str, kind: str) -> bool:
    return any(event.type == kind for event in drill.received[execution])
