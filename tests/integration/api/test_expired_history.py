"""An execution whose first commits have expired gets 410 on every route, never 500."""

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from tailrace_shared.nats.jetstream import JetStream


@pytest.fixture(params=["queued", "queued and started"])
async def expired(
    request: pytest.FixtureRequest, nats_client: Client, jetstream: JetStream, tenant: str
) -> str:
    """Return an execution of Tailrace 0.2 whose beginning expired by age while it ran."""
    log = HandWrittenLog(nats_client, tenant)
    last_expired = await log.commit(written.queued(log.execution))
    if request.param == "queued and started":
        last_expired = await log.commit(written.started(log.execution))
    else:
        await log.commit(written.started(log.execution))
    await log.step("a")
    subject = f"tr.log.{tenant}.{log.execution}"
    await jetstream.api("STREAM.PURGE.EVENTS", {"filter": subject, "seq": last_expired + 1})
    return log.execution


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/workflows/flow/runs/{id}"),
        ("GET", "/api/v1/workflows/flow/runs/{id}?include_logs=true"),
        ("GET", "/api/v1/executions/{id}/steps/a"),
        ("GET", "/api/v1/executions/{id}/steps/a/input"),
        ("GET", "/api/v1/executions/{id}/steps/a/output"),
        ("POST", "/api/v1/executions/{id}/cancel"),
        ("POST", "/api/v1/executions/{id}/pause"),
        ("POST", "/api/v1/executions/{id}/resume"),
        ("POST", "/api/v1/executions/{id}/rerun"),
    ],
)
async def test_every_route_of_an_execution_answers_410(
    http: httpx.AsyncClient, expired: str, method: str, path: str
) -> None:
    """The problem names the execution."""
    answer = await http.request(method, path.format(id=expired))
    assert answer.status_code == 410
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"the beginning of execution '{expired}' has expired"


async def test_commands_of_front_ends_answer_410(http: httpx.AsyncClient, expired: str) -> None:
    """Like the routes under ``/executions``."""
    for command in ("resume", "cancel"):
        answer = await http.post(f"/api/workflow/{command}", json={"executionId": expired})
        assert answer.status_code == 410


async def test_lists_and_snapshots_leave_it_out(http: httpx.AsyncClient, expired: str) -> None:
    """Other executions are still listed."""
    for path in ("/api/workflow/paused", "/api/v1/workflows/flow/runs", "/api/v1/waiting"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert expired not in answer.text
