"""The commands of the paused-workflows page: paths, fields and curl usage."""

from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import NOW, HandWrittenLog
from tailrace_shared.execution import events as ev
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

FLOW = {
    "input": {"type": "object"},
    "nodes": {"approve": {"type": "await"}, "payment": {"type": "await"}},
}


@pytest.fixture
async def log(nats_client: Client, tenant: str, version: int) -> HandWrittenLog:
    """An execution with two waiting steps."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version)
    for node in ("approve", "payment"):
        waiting = ev.StepWait(node, "await", "waiting", wait="signal", attempt=1)
        await log.commit(written.step_started(node, "await"), ev.StepWaiting(waiting, NOW))
    await log.commit(
        ev.ExecutionPaused(
            ev.Paused(log.execution, "paused", "signal", waiting=["approve", "payment"]), NOW
        )
    )
    return log


async def requested(jetstream: JetStream, log: HandWrittenLog) -> list[ev.Command]:
    """Return the commands in a log."""
    found = ExecutionLog(jetstream, Subjects()).read(log.tenant, log.execution)
    events = [event async for commit in found for event in commit.events()]
    return [event.data for event in events if isinstance(event, ev.CommandRequested)]


def places(answer: httpx.Response) -> list[str]:
    """Return the JSON Pointers of a refusal."""
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_a_workflow_is_executed_by_its_id(http: httpx.AsyncClient, version: int) -> None:
    """With or without an input."""
    answer = await http.post(
        "/api/workflow/execute", json={"workflowId": "flow", "input": {"orderId": "order_123"}}
    )
    assert answer.status_code == 202
    shown = answer.json()
    assert shown == {
        "executionId": shown["executionId"],
        "workflowId": "flow",
        "status": "queued",
    }
    run = (await http.get(answer.headers["location"])).json()
    assert (run["input"], run["version"]) == ({"orderId": "order_123"}, version)
    answer = await http.post("/api/workflow/execute", json={"workflowId": "flow", "input": None})
    assert (await http.get(answer.headers["location"])).json()["input"] == {}


async def test_a_workflow_is_executed_by_curl(http: httpx.AsyncClient, version: int) -> None:
    """``curl -d`` sends a form content type."""
    answer = await http.post(
        "/api/workflow/execute",
        content=b'{"workflowId": "flow"}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status_code, answer.json()["workflowId"]) == (202, "flow")
    assert (await http.get(answer.headers["location"])).json()["version"] == version


async def test_a_waiting_step_gets_its_signal(
    http: httpx.AsyncClient, jetstream: JetStream, log: HandWrittenLog
) -> None:
    """The step must be named if several wait."""
    body: dict[str, Any] = {"executionId": log.execution, "data": {"ok": True}}
    answer = await http.post("/api/workflow/resume", json=body)
    assert answer.status_code == 409
    answer = await http.post("/api/workflow/resume", json={**body, "node": "approve"})
    assert answer.status_code == 202
    resumed = answer.json()
    assert resumed.pop("commandId")
    assert resumed.pop("eventId").endswith("-0")
    assert resumed == {"executionId": log.execution, "workflowId": "flow", "status": "paused"}
    # An empty resume approves the only remaining step.
    answer = await http.post("/api/workflow/resume", json={"executionId": log.execution})
    assert answer.status_code == 202
    assert [
        (each.command, each.node_id, each.decision, each.data)
        for each in await requested(jetstream, log)
    ] == [
        ("resolve", "approve", "approved", {"ok": True}),
        ("resolve", "payment", "approved", None),
    ]


async def test_an_execution_is_cancelled_with_a_reason(
    http: httpx.AsyncClient, jetstream: JetStream, log: HandWrittenLog
) -> None:
    """A second request changes nothing."""
    body = {"executionId": log.execution, "reason": "changed my mind"}
    for _ in range(2):
        answer = await http.post("/api/workflow/cancel", json=body)
        assert (answer.status_code, answer.json()["executionId"]) == (202, log.execution)
    (command,) = await requested(jetstream, log)
    assert (command.command, command.reason) == ("cancel", "changed my mind")


@pytest.mark.parametrize("command", ["resume", "cancel"])
async def test_another_tenants_execution_cannot_be_commanded(
    http: httpx.AsyncClient, log: HandWrittenLog, command: str
) -> None:
    """It is reported as not existing."""
    path = f"/api/workflow/{command}"
    theirs = await http.post(
        path, json={"executionId": log.execution}, headers={"x-organization-id": "other"}
    )
    nobodys = await http.post(path, json={"executionId": log.execution[:-1] + "x"})
    assert theirs.status_code == nobodys.status_code == 404


@pytest.mark.parametrize(
    ("command", "body", "place"),
    [
        ("execute", {}, "/workflowId"),
        ("execute", {"workflowId": 5}, "/workflowId"),
        ("execute", {"workflowId": "a.*"}, "/workflowId"),
        ("execute", {"workflowId": "flow", "inputs": {}}, "/inputs"),
        ("execute", {"workflowId": "flow", "input": "x"}, "/input"),
        ("resume", {"node": "approve"}, "/executionId"),
        ("resume", {"executionId": "$", "nod": "approve"}, "/nod"),
        ("resume", {"executionId": "$", "node": 5}, "/node"),
        ("resume", {"executionId": "$", "node": "aprove"}, "/node"),
        ("resume", {"executionId": "$", "decision": "maybe"}, "/decision"),
        ("cancel", {"executionId": ">"}, "/executionId"),
        ("cancel", {"executionId": "$", "reason": "x" * 1001}, "/reason"),
    ],
)
async def test_errors_name_the_fields_of_the_page(
    http: httpx.AsyncClient, log: HandWrittenLog, command: str, body: dict[str, Any], place: str
) -> None:
    """422 with the page's field names."""
    if body.get("executionId") == "$":
        body = {**body, "executionId": log.execution}
    answer = await http.post(f"/api/workflow/{command}", json=body)
    assert (answer.status_code, places(answer)) == (422, [place])
