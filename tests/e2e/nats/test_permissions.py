"""Services work with the permissions that ``tailrace topology permissions`` prints, and TLS."""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from harness.nats.server import NatsServer
from harness.nats.trust import Certificates
from harness.processes.api_and_worker import ApiAndWorker
from harness.processes.polling import until
from tailrace_shared.admin.permissions import configuration
from tailrace_shared.nats.connection.credentials import NatsCredentials
from tailrace_shared.settings import CommonSettings

NODES = {
    "big": {"type": "transform", "with": {"value": ["${input.text}", "${input.text}"]}},
    "each": {
        "type": "map",
        "needs": ["big"],
        "with": {
            "for_each": "[1, 2]",
            "do": {"type": "transform", "with": {"value": "${item}"}},
        },
    },
    "child": {"type": "workflow", "with": {"id": "flow", "input": {}}},
    "emit": {"type": "emit", "with": {"procedure": "orders.new"}},
    "wait": {"type": "await", "needs": ["each"], "with": {"triggers": ["orders.paid"]}},
    "nap": {"type": "delay", "with": {"duration": "3s"}, "needs": ["wait"]},
}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def secured(tmp_path, certificates):
    """A server with mutual TLS and a user of each service with the printed permissions."""
    users = "\n".join(
        f'{{ user: {name}, password: "{name}-pw", permissions: ${name.upper()}_PERMISSIONS }}'
        for name in ("api", "worker", "admin")
    )
    text = (
        certificates.configuration()
        + configuration(CommonSettings())
        + f"authorization {{ users: [\n{users}\n] }}\n"
    )
    with NatsServer(tmp_path / "nats", configuration=text) as server:
        yield server


def url_of(server: NatsServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:{user}-pw@")


async def run_admin(server: NatsServer, certificates: Certificates, *arguments: str) -> str:
    """Run an operator's command; return its output."""
    settings = {
        f"TAILRACE_{name.upper()}": value for name, value in certificates.settings().items()
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tailrace", *arguments],
        env={**settings, "NATS_URL": url_of(server, "admin"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stderr
    return ended.stdout


@contextlib.asynccontextmanager
async def services(server, certificates, folder):
    """Run an API and a worker, each as its own user."""
    settings = certificates.settings()
    settings |= {"max_runs_per_minute": "1000", "delivery_interval": "50ms"}
    both = ApiAndWorker(url_of(server, "api"), folder, **settings)
    both.worker.set_environment(NATS_URL=url_of(server, "worker"))
    await run_admin(server, certificates, "topology", "apply")
    try:
        await both.start()
        await both.until_ready()
        yield both
    finally:
        await both.close()


async def use_everything(both: ApiAndWorker) -> None:
    """Run steps of all kinds, with signals, schedules, statistics and dead letters."""
    http = both.http

    async def ask(method, path, status, **request):
        answer = await http.request(method, path, **request)
        assert answer.status_code == status, (path, answer.text)
        return answer.json() if answer.content else None

    await both.store_workflow()
    await ask(
        "PUT", "/api/v1/workflows/all", 201, json={"nodes": NODES, "concurrency": {"limit": 1}}
    )
    start = {"input": {"text": "x" * 150_000}}
    runs = [
        (await ask("POST", "/api/v1/workflows/all/runs", 202, json=start))["execution_id"]
        for _ in range(2)
    ]
    schedule = {"id": "s", "workflow_id": "flow", "cron": "@every 1s"}
    await ask("POST", "/api/v1/schedules", 201, json=schedule)
    await ask("POST", f"/api/v1/executions/{runs[0]}/pause", 202, json={})
    await ask("POST", f"/api/v1/executions/{runs[0]}/resume", 202, json={})
    # Only one of them runs at a time; the worker takes both jobs at once, so either may be first.
    completed: set[str] = set()
    while len(completed) < len(runs):

        async def waits():
            page = await ask("GET", "/api/v1/waiting", 200)
            return {each["execution_id"] for each in page["waiting"]} & {*runs} - completed

        await until(waits)
        (run,) = await waits()
        await ask("POST", "/api/v1/triggers/orders.paid", 202, json={})
        await both.all_completed([run])
        completed.add(run)
    await ask("POST", f"/api/v1/executions/{runs[0]}/rerun", 202, json={})
    for path in ("workflows", "executions", "schedules", "dead-letters", "waiting"):
        await ask("GET", f"/api/v1/{path}", 200)
    await ask("GET", "/api/realtime/stats", 200)
    await ask("GET", f"/api/v1/executions/{runs[0]}", 200)
    await ask("DELETE", "/api/v1/schedules/s", 204)
    await ask("DELETE", "/api/v1/dead-letters", 200)


@pytest.mark.timeout(180)
async def test_services_work_with_the_least_permissions(tmp_path, secured, certificates):
    """NATS refuses nothing meanwhile."""
    async with services(secured, certificates, tmp_path) as both:
        await use_everything(both)
        doctor = json.loads(await run_admin(secured, certificates, "doctor", "--json"))
        assert all(each["verdict"] != "FAIL" for each in doctor), doctor
    refused = [line for line in secured.log.read_text().splitlines() if "Violation" in line]
    assert refused == []
    for log in (both.api.log_text, both.worker.log_text):
        assert "-pw" not in log


REFUSED = {
    "api": [
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.CONSUMER.CREATE.JOBS.x.tr.jobs.>",
        "$JS.API.CONSUMER.MSG.NEXT.JOBS.executions",
        "$JS.ACK.JOBS.executions.1.1.1.1.1",
        "tr.output.t.e.o.0",
        "tr.dead.executions",
        "tr.worker.w",
        "$KV.runs.t.w.e",
        "$KV.node_types.x",
        "other.log.t.e",
    ],
    "worker": [
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.DIRECT.GET.KV_keys",
        "$JS.API.STREAM.MSG.GET.KV_keys",
        "$KV.keys.tickets",
        "$KV.workflows.t.w",
        "tr.api.clients",
        "other.log.t.e",
    ],
    "admin": [
        "tr.log.t.e",
        "tr.jobs.triggers",
        "$KV.workflows.t.w",
        "$JS.API.STREAM.DELETE.OTHER",
    ],
}
HIDDEN = {
    "api": [
        "_INBOX.tr.worker.>",
        "tr.jobs.>",
        "tr.log.>",
        "tr.output.>",
        "$KV.keys.>",
        "tr.worker.*",
        ">",
    ],
    "worker": ["_INBOX.tr.api.>", "tr.jobs.>", "$KV.keys.>", "tr.api.clients", ">"],
    "admin": ["_INBOX.tr.api.>", "tr.live.>", ">"],
}


@pytest.mark.parametrize("user", ["api", "worker", "admin"])
async def test_users_may_not_do_what_their_service_does_not_need(secured, certificates, user):
    """In particular: the API takes no jobs, and the worker issues no tickets."""
    violations: asyncio.Queue[str] = asyncio.Queue()

    async def note(error):
        await violations.put(str(error))

    settings = CommonSettings(**certificates.settings())
    client: Client = await nats.connect(
        url_of(secured, user), tls=NatsCredentials(settings).ssl_context(), error_cb=note
    )
    try:
        for subject in REFUSED[user]:
            await client.publish(subject, b"")
            assert subject.lower() in (await asyncio.wait_for(violations.get(), 10)).lower()
        for subject in HIDDEN[user]:
            await client.subscribe(subject)
            assert subject.lower() in (await asyncio.wait_for(violations.get(), 10)).lower()
    finally:
        await client.close()
