"""Run and watch in one response: one run, however often the request is repeated."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.message_counts import stored, taken
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.subjects import Subjects

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


@pytest.fixture
async def tenant(port: int) -> str:
    """A tenant with a workflow ``flow`` and one that has a number for a name."""
    name = f"t-{uuid4().hex[:12]}"
    async with httpx.AsyncClient(headers={"x-organization-id": name}, timeout=60) as http:
        for workflow in ("flow", "1"):
            await http.put(f"http://127.0.0.1:{port}/api/v1/workflows/{workflow}", json=FLOW)
    return name


def post(
    port: int, tenant: str, *, flow: str | int = "flow", last_event_id: str = "", key: str = ""
) -> SseClient:
    """Return a request that runs and watches."""
    headers = {"x-organization-id": tenant} | ({"idempotency-key": key} if key else {})
    return SseClient(
        port,
        "/api/v1/executions/stream",
        method="POST",
        headers=headers,
        last_event_id=last_event_id,
        body={"flow_id": flow, "input_data": {"x": 1}},
    )


async def _go_on(client: Client, tenant: str, execution: str) -> HandWrittenLog:
    """Act as the worker of a run that the API has created."""
    log = HandWrittenLog(client, tenant, execution)
    last = await JetStream(client).get("EVENTS", {"last_by_subj": f"tr.log.{tenant}.{execution}"})
    assert last is not None
    log.last = last.sequence
    await log.commit(written.started(execution))
    return log


async def test_a_run_is_started_and_watched_to_its_end(
    port: int, nats_client: Client, tenant: str
) -> None:
    """The frames are data only, each with an id."""
    async with post(port, tenant) as stream:
        (first,) = await stream.take(1)
        assert first.type == "message"
        assert first.json()["type"] == "executionStarted"
        started = first.json()["data"]
        assert (started["flow_id"], started["input_data"]) == ("flow", {"x": 1})
        log = await _go_on(nats_client, tenant, started["execution_id"])
        await log.commit(written.step_started("a"), written.step_progress("a", 10))
        before, progress = await stream.take(2)
        assert progress.json()["data"]["percent"] == 10
        await log.commit(written.step_completed("a", 5))
        await log.complete({"a": 5})
        after, finished = await stream.all()
        assert stream.is_complete
    kinds = [event.json()["type"] for event in (before, after, finished)]
    assert kinds == ["nodeExecutionBefore", "nodeExecutionAfter", "executionFinished"]
    assert after.json()["data"]["output"] == 5
    assert finished.json()["data"]["output"] == {"a": 5}
    assert all(event.is_logged for event in (first, before, after, finished))


async def test_a_repeated_request_with_an_id_starts_nothing(
    replicas: list[ApiProcess], nats_client: Client, tenant: str
) -> None:
    """At another replica it goes on after that id; at the end it is 204."""
    async with post(replicas[0].port, tenant) as stream:
        (first,) = await stream.take(1)
    log = await _go_on(nats_client, tenant, first.json()["data"]["execution_id"])
    before = await stored(JetStream(nats_client))
    async with post(replicas[1].port, tenant, last_event_id=first.id) as stream:
        await log.step("a")
        events = await stream.take(2)
    async with post(replicas[2].port, tenant, last_event_id=events[0].id) as stream:
        await log.complete()
        events = events[:1] + await stream.all()
    kinds = [event.json()["type"] for event in events]
    assert kinds == ["nodeExecutionBefore", "nodeExecutionAfter", "executionFinished"]
    async with post(replicas[0].port, tenant, last_event_id=events[-1].id) as stream:
        assert await stream.all() == []
        assert stream.status == 204
    assert await taken(JetStream(nats_client), before) == {"EVENTS": 2}


async def test_ids_that_name_no_run_start_none(
    port: int, nats_client: Client, tenant: str, log: HandWrittenLog
) -> None:
    """Unknown, of another tenant, of another epoch: said, and closed."""
    await log.begin()
    async with post(port, tenant) as stream:
        (first,) = await stream.take(1)
    epoch, sequence, _ = first.id.split("-")
    async with post(port, tenant) as stream:
        (gone,) = await stream.take(1)
    purged = Subjects().log(tenant, gone.json()["data"]["execution_id"])
    await JetStream(nats_client).api("STREAM.PURGE.EVENTS", {"filter": purged})
    before = await stored(JetStream(nats_client))
    for text, reason in [
        (gone.id, "expired"),
        ("garbage", "unknown"),
        (f"{epoch}-{log.last}-0", "unknown"),
        (f"{epoch}-{sequence}-5", "unknown"),
        (f"{epoch}-99999999-0", "restored"),
        (f"18c0ffee000-{sequence}-0", "recreated"),
    ]:
        async with post(port, tenant, last_event_id=text) as stream:
            (reset,) = await stream.all()
        assert (stream.status, reset.type) == (200, "stream:reset")
        assert reset.json() == {"reason": reason, "from": None}
    assert await taken(JetStream(nats_client), before) == {}


async def test_an_idempotency_key_makes_a_lost_answer_harmless(
    replicas: list[ApiProcess], nats_client: Client, tenant: str
) -> None:
    """The request that is repeated without an id watches the run that it started before."""
    before = await stored(JetStream(nats_client))
    streams = [post(replica.port, tenant, key="k") for replica in replicas]
    firsts = await asyncio.gather(*(_first(stream) for stream in streams))
    assert len({first["data"]["execution_id"] for first in firsts}) == 1
    assert (await taken(JetStream(nats_client), before))["EVENTS"] == 1


async def test_flows_may_be_numbered(port: int, tenant: str) -> None:
    """Some front ends number theirs."""
    assert (await _first(post(port, tenant, flow=1)))["data"]["flow_id"] == "1"


async def test_what_cannot_run_is_refused_before_any_stream(port: int, tenant: str) -> None:
    """An unknown flow is a problem, not a stream."""
    async with post(port, tenant, flow="missing") as stream:
        await stream.all()
    assert stream.status == 404
    assert stream.headers["content-type"] == "application/problem+json"


async def test_leaving_does_not_cancel_the_run(port: int, nats_client: Client, tenant: str) -> None:
    """The run continues without a client."""
    first = await _first(post(port, tenant))
    log = await _go_on(nats_client, tenant, first["data"]["execution_id"])
    assert log.last > 0  # the append was legal: only the creation was there
    async with httpx.AsyncClient(headers={"x-organization-id": tenant}, timeout=60) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/api/v1/executions/{log.execution}")
    assert answer.json()["status"] == "running"


async def _first(stream: SseClient) -> Any:
    async with stream:
        (event,) = await stream.take(1)
        return event.json()
