"""Triggers over HTTP: stored once and delivered to waiting steps; the list of waiting steps."""

from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import NOW, HandWrittenLog
from harness.nats.message_counts import stored, taken
from tailrace_shared.execution import events as ev
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.subjects import Subjects

TRIGGER = "/api/v1/triggers/approvals.po.approved"


async def waiting(
    client: Client, tenant: str, po: int, match: str | None = "event.po == input.po"
) -> HandWrittenLog:
    """Return an execution that waits for the trigger, recorded as by a worker."""
    log = HandWrittenLog(client, tenant)
    await log.begin("flow", 1, {"po": po})
    wait = ev.StepWait(
        "ask", "await", "waiting", wait="signal", triggers=["approvals.po.approved"], match=match
    )
    await log.commit(written.step_started("ask", "await"), ev.StepWaiting(wait, NOW))
    paused = ev.Paused(log.execution, "paused", "approval", waiting=["ask"])
    await log.commit(ev.ExecutionPaused(paused, NOW))
    entry = Waiting(
        execution_id=log.execution,
        node_id="ask",
        workflow_id="flow",
        workflow_name="flow",
        reason="approval",
        since=NOW,
        triggers=wait.triggers,
        match=match,
        input={"po": po},
        context={"input": {"po": po}},
    )
    await WaitingIndex(JetStream(client), Subjects()).put(tenant, entry)
    return log


async def events_of(jetstream: JetStream, log: HandWrittenLog) -> list[Any]:
    """Return the signal events in a log."""
    history = ExecutionLog(jetstream, Subjects()).read(log.tenant, log.execution)
    events = [event async for commit in history for event in commit.events()]
    return [event.data.event for event in events if isinstance(event, ev.CommandRequested)]


async def test_a_trigger_resumes_every_matching_wait(
    http: httpx.AsyncClient, nats_client: Client, jetstream: JetStream, tenant: str
) -> None:
    """Of this tenant only."""
    same = [await waiting(nats_client, tenant, 7) for _ in range(2)]
    other = await waiting(nats_client, tenant, 8)
    foreign = await waiting(nats_client, f"{tenant}-b", 7)
    answer = await http.post(TRIGGER, json={"po": 7, "by": "Ada"})
    assert (answer.status_code, answer.json()) == (202, {"matched": 2})
    for log in same:
        assert await events_of(jetstream, log) == [{"po": 7, "by": "Ada"}]
    for log in (other, foreign):
        assert await events_of(jetstream, log) == []
    assert (await http.post(TRIGGER, json={"po": 7})).json() == {"matched": 0}


async def test_an_idempotency_key_deduplicates_triggers(
    http: httpx.AsyncClient, nats_client: Client, jetstream: JetStream, tenant: str
) -> None:
    """The response is the same, and no step gets it twice."""
    log = await waiting(nats_client, tenant, 7)
    before = await stored(jetstream)
    answers = [
        (await http.post(TRIGGER, json={"po": 7}, headers={"idempotency-key": "k"})).json()
        for _ in range(2)
    ]
    assert answers == [{"matched": 1}, {"matched": 1}]
    assert (await taken(jetstream, before))["TRIGGERS"] == 1
    assert len(await events_of(jetstream, log)) == 1


async def test_an_unmatched_trigger_is_stored(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """Later waits that look back find it; the body is optional."""
    before = await stored(jetstream)
    assert (await http.post(TRIGGER)).json() == {"matched": 0}
    assert await taken(jetstream, before) == {"TRIGGERS": 1}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("a..b", {}, 400),
        ("a%20b", {}, 400),
        ("x" * 129, {}, 400),
        ("a.*", {}, 400),
        ("a.b", [1], 422),
        ("a.b", {"x": "x" * 300_000}, 413),
    ],
)
async def test_an_invalid_trigger_is_refused(
    http: httpx.AsyncClient, jetstream: JetStream, path: str, body: Any, status: int
) -> None:
    """It is not stored."""
    before = await stored(jetstream)
    answer = await http.post(f"/api/v1/triggers/{path}", json=body)
    assert answer.status_code == status
    assert await taken(jetstream, before) == {}


async def test_waiting_steps_are_listed(
    http: httpx.AsyncClient, nats_client: Client, tenant: str
) -> None:
    """Pages are ordered newest first; entries have reason and triggers."""
    logs = [await waiting(nats_client, tenant, number) for number in range(3)]
    page = (await http.get("/api/v1/waiting", params={"limit": 2})).json()
    rest = (await http.get("/api/v1/waiting", params={"cursor": page["cursor"]})).json()
    listed = [*page["waiting"], *rest["waiting"]]
    assert [entry["execution_id"] for entry in listed] == [log.execution for log in logs][::-1]
    assert rest["cursor"] is None
    assert (listed[0]["node_id"], listed[0]["reason"]) == ("ask", "approval")
    assert (await http.get("/api/v1/waiting", params={"cursor": "a b"})).status_code == 400
