"""Roll from version 0.2.0 to this one and back, under load.

Every accepted execution ends, with any combination of versions of its API and workers. The list of
paused workflows is right all the time on every replica, and the list of runs has every run. Each
client's events are the log.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.polling import until
from harness.processes.ports import free_port
from harness.processes.previous_release import unpack_previous_release
from harness.processes.service import Service
from harness.sse.client import follow
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import apply, plan
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.start_backfill import backfill_starts
from tailrace_shared.subjects import Subjects

Version = Literal["0.2.0", "this"]

_LOAD_INTERVAL_S: Final = 0.5
_CHECK_INTERVAL_S: Final = 0.1
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
        listed: the executions that every replica has listed as paused.
    """

    nats: NatsServer
    folder: Path
    previous: str
    apis: dict[int, tuple[Version, Service]] = field(default_factory=dict)
    workers: list[tuple[Version, Service]] = field(default_factory=list)
    started: dict[str, list[str]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def _service(self, version: Version, module: str, **settings: str) -> Service:
        environment = {f"TAILRACE_{name.upper()}": value for name, value in settings.items()}
        environment["NATS_URL"] = self.nats.url
        if version == "0.2.0":
            environment["PYTHONPATH"] = self.previous
        name = f"{module}-{version}-{len(self.apis)}-{len(self.workers)}-{free_port()}.log"
        return Service(module, environment, self.folder / name).start()

    async def start(self, version: Version) -> None:
        """Start an API replica and a worker of a version."""
        port = free_port()
        api = await asyncio.to_thread(
            self._service, version, "tailrace_api", port=str(port), retry="50ms"
        )
        worker = await asyncio.to_thread(
            self._service, version, "tailrace_worker", ack_wait="2s", sweep_interval="1s"
        )
        self.workers.append((version, worker))
        self.apis[port] = (version, api)

    async def stop(self, version: Version) -> None:
        """Stop all services of a version, as a rollout does."""
        for port in [port for port, (found, _) in self.apis.items() if found == version]:
            _, api = self.apis.pop(port)
            assert await asyncio.to_thread(api.stop) == 0
        for each in [each for each in self.workers if each[0] == version]:
            self.workers.remove(each)
            assert await asyncio.to_thread(each[1].stop) == 0

    async def move(self, version: int) -> None:
        """Apply a version of the topology, as ``tailrace topology apply`` does."""
        settings = CommonSettings(nats_url=self.nats.url)
        client = await connect(settings, "test")
        jetstream, specs = JetStream(client), topology(settings, version)
        if version > 1:
            await backfill_starts(jetstream, Subjects(settings.prefix), lambda *_: None)
        await apply(jetstream, await plan(jetstream, specs))
        assert await plan(jetstream, specs) == []
        await client.close()

    def kill(self) -> None:
        """Kill everything."""
        for _, service in [*self.apis.values(), *self.workers]:
            service.kill()

    async def start_runs(self, http: httpx.AsyncClient) -> None:
        """Start a run of each workflow on each replica that is not being stopped."""
        for port in [*self.apis]:
            for workflow in WORKFLOWS:
                url = f"http://127.0.0.1:{port}/api/v1/workflows/{workflow}/runs"
                try:
                    answer = await http.post(url, json={"input": {}})
                except httpx.TransportError:
                    assert port not in self.apis
                    break
                assert answer.status_code == 202, answer.text
                self.started.setdefault(workflow, []).append(answer.json()["execution_id"])

    async def keep_starting(self, http: httpx.AsyncClient) -> None:
        """Start runs until cancelled."""
        while True:
            await self.start_runs(http)
            await asyncio.sleep(_LOAD_INTERVAL_S)

    async def keep_checking(self, http: httpx.AsyncClient) -> None:
        """Check until cancelled that no replica loses an execution that awaits an approval."""
        while True:
            for port in [*self.apis]:
                expected = set(self.listed)
                try:
                    found = await self.paused(http, port)
                except httpx.TransportError:
                    assert port not in self.apis
                    continue
                assert expected <= found
            await asyncio.sleep(_CHECK_INTERVAL_S)

    async def paused(self, http: httpx.AsyncClient, port: int) -> set[str]:
        """Return the executions in a replica's list of paused workflows."""
        answer = await http.get(f"http://127.0.0.1:{port}/api/workflow/paused")
        assert answer.status_code == 200, answer.text
        return {each["executionId"] for each in answer.json()["pausedWorkflows"]}

    async def runs(self, http: httpx.AsyncClient, port: int) -> set[str]:
        """Return the executions in all pages of a replica's list of runs."""
        url, found = f"http://127.0.0.1:{port}/api/v1/executions", set[str]()
        cursor: str | None = ""
        while cursor is not None:
            query = {"limit": "20"} | ({"cursor": cursor} if cursor else {})
            answer = await http.get(url, params=query)
            page = answer.json()
            if cursor and answer.status_code == 400:
                # The replica reads the list of another topology now, whose cursors differ.
                assert page["detail"].startswith("cursor: "), answer.text
                cursor = ""
                continue
            assert answer.is_success, answer.text
            found |= {run["execution_id"] for run in page["runs"]}
            cursor = page["cursor"]
        return found


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


async def has_completed(http: httpx.AsyncClient, port: int, execution: str) -> bool:
    """Tell whether an execution has completed, as a replica tells it."""
    answer = await http.get(f"http://127.0.0.1:{port}/api/v1/executions/{execution}")
    assert answer.status_code == 200
    return bool(answer.json()["status"] == "completed")


async def move_up(deployment: Deployment, http: httpx.AsyncClient) -> None:
    """Apply this version's topology; return when lists are read from the rows that it adds."""
    await deployment.move(2)
    (port,) = [port for port, (version, _) in deployment.apis.items() if version == "this"]

    async def reads_rows() -> bool:
        url = f"http://127.0.0.1:{port}/api/v1/executions"
        cursor: str = (await http.get(url, params={"limit": "1"})).json()["cursor"]
        # A cursor is the position of a row, or an execution id.
        return not cursor.startswith("l")

    await until(reads_rows)


async def check_lists(deployment: Deployment, http: httpx.AsyncClient) -> None:
    """Check that every replica lists what was started until now, and what awaits an approval."""
    waiting = set(deployment.started["approval"])
    started = {each for ids in deployment.started.values() for each in ids}
    for port, (version, _) in [*deployment.apis.items()]:

        async def is_right(port: int = port) -> bool:
            found = await deployment.paused(http, port)
            assert found <= set(deployment.started["approval"])
            return waiting <= found

        async def is_complete(port: int = port) -> bool:
            return started <= await deployment.runs(http, port)

        await until(is_right)
        if version == "this":
            await until(is_complete)
    deployment.listed = waiting


@pytest.mark.timeout(300)
async def test_an_upgrade_and_a_rollback_lose_nothing(deployment: Deployment) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        await deployment.start("0.2.0")
        (port,) = deployment.apis
        for name, nodes in WORKFLOWS.items():
            url = f"http://127.0.0.1:{port}/api/v1/workflows/{name}"
            assert (await http.put(url, json={"nodes": nodes})).is_success
        stages: list[Callable[[], Awaitable[None]]] = [
            functools.partial(deployment.start, "this"),
            functools.partial(move_up, deployment, http),
            functools.partial(deployment.stop, "0.2.0"),
            functools.partial(deployment.move, 1),
            functools.partial(deployment.start, "0.2.0"),
            functools.partial(deployment.stop, "this"),
            functools.partial(deployment.start, "this"),
        ]
        await deployment.start_runs(http)
        await check_lists(deployment, http)
        async with asyncio.TaskGroup() as group:
            load = [
                group.create_task(deployment.keep_starting(http)),
                group.create_task(deployment.keep_checking(http)),
            ]
            for stage in stages:
                await stage()
                await deployment.start_runs(http)
                await check_lists(deployment, http)
            for task in load:
                task.cancel()
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
    # The last of each workflow that each version has started, and the first of all.
    for ids in deployment.started.values():
        for execution in {ids[0], *ids[-4:]}:
            await check_stream(http, deployment.apis, execution)


async def check_stream(
    http: httpx.AsyncClient, apis: dict[int, tuple[Version, Service]], execution: str
) -> None:
    """Check that both versions stream the same events, which are the log."""
    port, *_ = apis
    url = f"http://127.0.0.1:{port}/api/v1/executions/{execution}?include_logs=true"
    log = [entry["id"] for entry in (await http.get(url)).json()["logs"]]
    for port in apis:
        async with follow(port, execution) as stream:
            stream.parser.allows_empty_blocks = apis[port][0] == "0.2.0"
            events = await stream.all()
        assert [event.id for event in events if event.own_id and event.data] == log
