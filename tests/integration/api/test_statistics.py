"""Statistics over HTTP, limited to the caller's tenant."""

import httpx
import pytest

from harness.processes.api_process import api_replicas
from tailrace_shared.estimation import RunDelta
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.subjects import Subjects


@pytest.fixture
def store(jetstream: JetStream) -> StatsStore:
    """The store, as workers use it."""
    return StatsStore(jetstream, Subjects())


def _tally(now: float) -> RunDelta:
    delta = RunDelta()
    step = StepState("a", "log", "success", duration_ms=500)
    run = ExecutionState(
        status="completed",
        finished_at=format_timestamp(now),
        duration_ms=700,
        steps={"a": step},
    )
    delta.record_run(run)
    return delta


async def _put_workflow(http: httpx.AsyncClient) -> None:
    nodes = {"a": {"type": "simulate", "with": {"duration": "1s"}}, "b": {"type": "simulate"}}
    answer = await http.put("/api/v1/workflows/flow", json={"id": "flow", "nodes": nodes})
    assert answer.status_code in {200, 201}, answer.text


async def _now(http: httpx.AsyncClient) -> float:
    return float((await http.get("/api/realtime/stats")).json()["timestamp"]) / 1000


async def test_a_tenant_sees_its_own_statistics(
    http: httpx.AsyncClient, tenant: str, store: StatsStore
):
    """Finished and active runs; other tenants' runs are not counted."""
    now = await _now(http)
    await store.add(tenant, "flow", _tally(now))
    await store.add(f"{tenant}-other", "flow", _tally(now))
    await store.add(f"{tenant}-other", "theirs", _tally(now))
    await _put_workflow(http)
    await http.post("/api/v1/workflows/flow/runs", json={})
    workflow = (await http.get("/api/v1/workflows/flow/stats")).json()
    assert workflow["ended"] == {"completed": 1, "failed": 0, "cancelled": 0}
    assert workflow["active_runs"] == 1
    assert [node["succeeded"] for node in workflow["nodes"]] == [1, 0]
    by_merchant = {"x-organization-id": ""}
    answer = await http.get(f"/api/realtime/stats?merchantId={tenant}", headers=by_merchant)
    while (stats := answer.json())["ended"]["completed"] != 1:  # cached for a second
        answer = await http.get("/api/realtime/stats")
    assert stats["merchantId"] == tenant
    assert [each["workflow_id"] for each in stats["workflows"]] == ["flow"]
    assert stats["run_latency"]["p50_ms"] == pytest.approx(700, rel=0.02)
    assert stats["success_rate"] == 1.0
    assert sum(minute["completed"] for minute in stats["throughput"]) == 1


async def test_an_unknown_workflow_has_no_statistics(
    http: httpx.AsyncClient, tenant: str, store: StatsStore
):
    """Another tenant's workflow gets the same response."""
    await store.add(f"{tenant}-other", "theirs", _tally(0.0))
    answers = [await http.get(f"/api/v1/workflows/{name}/stats") for name in ("theirs", "missing")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text.replace("theirs", "missing") == answers[1].text


async def test_a_run_document_estimates_from_earlier_runs(
    http: httpx.AsyncClient, tenant: str, store: StatsStore
):
    """Before any of its steps has finished."""
    await _put_workflow(http)
    delta = RunDelta()
    for node in ("a", "b"):
        step = StepState(node, "simulate", "success", duration_ms=4000)
        delta.record_run(ExecutionState(status="completed", steps={node: step}))
    await store.add(tenant, "flow", delta)
    started = (await http.post("/api/v1/workflows/flow/runs", json={})).json()
    run = (await http.get(f"/api/v1/executions/{started['execution_id']}")).json()
    assert run["eta_ms"] == pytest.approx(4000, rel=0.02)


async def test_clients_are_counted_over_all_replicas(idle_nats, tenant, tmp_path):
    """Any replica answers with the count of the caller's tenant."""
    headers = {"x-organization-id": tenant}
    with api_replicas(2, idle_nats.url, tmp_path) as replicas:
        clients = [
            httpx.AsyncClient(base_url=replica.url, headers=headers, timeout=60)
            for replica in replicas
        ]
        here, there = clients
        await _put_workflow(here)
        started = (await here.post("/api/v1/workflows/flow/runs", json={})).json()
        async with (
            here.stream("GET", started["stream_url"]),
            there.stream("GET", started["stream_url"]),
        ):
            found: dict[str, int] = {}
            # The session's other API is a replica, too. Slow replicas are not waited for.
            while found.get("replicas", 0) < 2 or found["connected_clients"] != 2:
                found = (await there.get("/api/realtime/stats")).json()
            other = {"x-organization-id": f"{tenant}-other"}
            found = (await here.get("/api/realtime/stats", headers=other)).json()
            assert found["connected_clients"] == 0
        for client in clients:
            await client.aclose()
