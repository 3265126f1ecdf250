"""Roll from version 0.2.0 to this one and back, under load.

Every accepted execution ends, with any combination of versions of its API and workers. The list of
paused workflows is right at every stage on every replica. Each client's events are the log.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from harness.processes.previous_release import unpack_previous_release
from harness.processes.service import Service
from harness.sse.client import follow
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import apply, plan
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings

Version = Literal["0.2.0", "this"]

APPROVAL = {"type": "await", "with": {"reason": "approval"}}
WORKFLOWS: dict[str, dict[str, Any]] = {
    "chain": {
        "a": {"type": "transform", "with": {"value": 1}},
        "b": {"type": "simulate", "needs": ["a"], "with": {"duration": "50ms"}},
        "c": {"type": "delay", "needs": ["b"], "with": {"duration": "3s"}},
        "d": {"type": "transform", "needs": ["c"], "with": {"value": "${nodes.a.output + 1}"}},
    },
    "approval": {
        "ask": APPROVAL,
        "after": {"type": "log", "needs": ["ask"], "with": {"message": "x"}},
    },
    "map": {
        "all": {
            "type": "map",
            "with": {
                "for_each": "[1, 2, 3]",
                "do": {"type": "simulate", "with": {"duration": "20ms"}},
            },
        }
    },
    "parent": {"child": {"type": "workflow", "with": {"id": "chain"}}},
}


@dataclass(slots=True)
class Deployment:
    """Services of both versions on one NATS.

    Attributes:
        apis: the running API replicas, by their port.
        workers: the running workers.
        started: the ids of all executions that an API has accepted, by workflow.
    """

    nats: NatsServer
    folder: Path
    previous: str
    apis: dict[int, tuple[Version, Service]] = field(default_factory=dict)
    workers: list[tuple[Version, Service]] = field(default_factory=list)
    started: dict[str, list[str]] = field(default_factory=dict)

    def _service(self, version: Version, module: str, **settings: str) -> Service:
        environment = {f"TAILRACE_{name.upper()}": value for name, value in settings.items()}
        environment["NATS_URL"] = self.nats.url
        if version == "0.2.0":
            environment["PYTHONPATH"] = self.previous
        name = f"{module}-{version}-{len(self.apis)}-{len(self.workers)}-{free_port()}.log"
        return Service(module, environment, self.folder / name).start()

    def start(self, version: Version) -> None:
        """Start an API replica and a worker of a version."""
        port = free_port()
        api = self._service(version, "tailrace_api", port=str(port), retry="50ms")
        self.apis[port] = (version, api)
        worker = self._service(version, "tailrace_worker", ack_wait="2s", sweep_interval="1s")
        self.workers.append((version, worker))

    def stop(self, version: Version) -> None:
        """Stop all services of a version, as a rollout does."""
        for port in [port for port, (found, _) in self.apis.items() if found == version]:
            assert self.apis.pop(port)[1].stop() == 0
        for each in [each for each in self.workers if each[0] == version]:
            self.workers.remove(each)
            assert each[1].stop() == 0

    def kill(self) -> None:
        """Kill everything."""
        for _, service in [*self.apis.values(), *self.workers]:
            service.kill()

    async def start_runs(self, http: httpx.AsyncClient) -> None:
        """Start a run of each workflow on each replica."""
        for port in self.apis:
            for workflow in WORKFLOWS:
                url = f"http://127.0.0.1:{port}/api/v1/workflows/{workflow}/runs"
                answer = await http.post(url, json={"input": {}})
                assert answer.status_code == 202, answer.text
                self.started.setdefault(workflow, []).append(answer.json()["execution_id"])

    async def paused(self, http: httpx.AsyncClient, port: int) -> set[str]:
        """Return the executions in a replica's list of paused workflows."""
        answer = await http.get(f"http://127.0.0.1:{port}/api/workflow/paused")
        assert answer.status_code == 200
        return {each["executionId"] for each in answer.json()["pausedWorkflows"]}


@pytest.fixture
async def deployment(
    nats_server: NatsServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    """Return a NATS without services."""
    previous = unpack_previous_release(tmp_path_factory.mktemp("previous"))
    opened = Deployment(nats_server, tmp_path, previous)
    try:
        yield opened
    finally:
        opened.kill()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until an asynchronous condition holds."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - other processes know, over HTTP only
            await asyncio.sleep(0.1)


async def has_completed(http: httpx.AsyncClient, port: int, execution: str) -> bool:
    """Tell whether an execution has completed, as a replica tells it."""
    answer = await http.get(f"http://127.0.0.1:{port}/api/v1/executions/{execution}")
    assert answer.status_code == 200
    return bool(answer.json()["status"] == "completed")


async def move(nats: NatsServer, version: int) -> None:
    """Apply a version of the topology, as ``tailrace topology apply`` does."""
    settings = CommonSettings(nats_url=nats.url)
    client = await connect(settings, "test")
    jetstream, specs = JetStream(client), topology(settings, version)
    await apply(jetstream, await plan(jetstream, specs))
    assert await plan(jetstream, specs) == []
    await client.close()


async def check_paused(deployment: Deployment, http: httpx.AsyncClient) -> None:
    """Check that every replica lists exactly the executions that await an approval."""
    waiting = set(deployment.started["approval"])
    for port in deployment.apis:

        async def is_right(port: int = port) -> bool:
            return await deployment.paused(http, port) == waiting

        await until(is_right)


@pytest.mark.timeout(300)
async def test_an_upgrade_and_a_rollback_lose_nothing(deployment: Deployment) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        deployment.start("0.2.0")
        (port,) = deployment.apis
        for name, nodes in WORKFLOWS.items():
            url = f"http://127.0.0.1:{port}/api/v1/workflows/{name}"
            assert (await http.put(url, json={"nodes": nodes})).is_success
        stages: list[Callable[[], Any]] = [
            lambda: deployment.start("this"),
            lambda: deployment.stop("0.2.0"),
            lambda: move(deployment.nats, 2),
            lambda: move(deployment.nats, 1),
            lambda: deployment.start("0.2.0"),
            lambda: deployment.stop("this"),
            lambda: deployment.start("this"),
        ]
        await deployment.start_runs(http)
        await check_paused(deployment, http)
        for stage in stages:
            if asyncio.iscoroutine(moving := stage()):
                await moving
            await deployment.start_runs(http)
            await check_paused(deployment, http)
        await finish(deployment, http)


async def finish(deployment: Deployment, http: httpx.AsyncClient) -> None:
    """Approve what waits, on alternating replicas; every execution completes, and is streamed."""
    ports = list(deployment.apis)
    for number, execution in enumerate(deployment.started["approval"]):
        url = f"http://127.0.0.1:{ports[number % len(ports)]}/api/v1/executions/{execution}/resume"
        answer = await http.post(url, json={"decision": "approved"})
        assert answer.status_code == 202, answer.text
    for execution in [each for ids in deployment.started.values() for each in ids]:
        for port in ports:
            await until(functools.partial(has_completed, http, port, execution))
        await check_stream(http, ports, execution)


async def check_stream(http: httpx.AsyncClient, ports: list[int], execution: str) -> None:
    """Check that both versions stream the same events, which are the log."""
    url = f"http://127.0.0.1:{ports[0]}/api/v1/executions/{execution}?include_logs=true"
    log = [entry["id"] for entry in (await http.get(url)).json()["logs"]]
    for port in ports:
        async with follow(port, execution) as stream:
            events = await stream.all()
        assert [event.id for event in events if event.is_logged and event.data] == log
