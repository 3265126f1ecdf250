"""Many topics over one connection, on real services."""

from collections import defaultdict
from typing import Any

import httpx
import pytest

from harness.sse.client import SseClient, SseEvent
from harness.sse.tenant_client import StreamReader, TenantClient, logged_events

PATH = "/api/v1/sse/stream?topics="
ORDER = {
    "parse": {"type": "transform", "stage": "parsing", "with": {"value": {"lineItems": 2}}},
    "approve": {"type": "await", "needs": ["parse"], "with": {"reason": "approval"}},
}


def by_topic(events: list[SseEvent]) -> dict[str, list[tuple[str, Any]]]:
    """Return what each topic has said: the names and the data that its blocks have there."""
    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for event in events:
        data = event.json()
        assert data["topic"] == event.type
        found[event.type].append((data["event"], data["data"]))
    return found


async def said(reader: StreamReader, topic: str, name: str) -> list[SseEvent]:
    """Read until a topic has said something; return all that has been read."""
    events = [await reader.next()]
    while (events[-1].type, events[-1].json()["event"]) != (topic, name):
        events.append(await reader.next())
    return events


async def paused(stage: TenantClient, execution: str) -> None:
    """Wait until an execution is among those that are paused."""
    async with stage.stream("/api/workflow/paused-stream") as watched:
        while execution not in (await watched.next()).data:
            pass


async def log_of(stage: TenantClient, execution: str) -> list[tuple[str, Any]]:
    """Return what the stream of an execution that has ended says of its log."""
    path = f"/api/v1/sse/executions/{execution}/stream"
    async with SseClient(
        stage.ports[0], path, headers={"x-organization-id": stage.tenant}
    ) as stream:
        return [(event.type, event.json()) for event in await stream.all() if event.is_logged]


async def test_each_topic_begins_and_goes_on_as_it_would_alone(stage: TenantClient):
    """Its snapshot or its past, then what happens, each once."""
    await stage.store("order", ORDER)
    await stage.store("other", {"a": {"type": "transform", "with": {"value": 1}}})
    first = await stage.execute("order", {"poId": "po-1"})
    await paused(stage, first)
    topics = [f"execution:{first}", "feed", "paused", "pipeline:order", "pipeline:none"]
    async with stage.stream(PATH + ",".join(topics)) as stream:
        opening = await said(stream, "pipeline:order", "batch_update")
        await stream.primed()
        await stage.post("/api/workflow/resume", executionId=first)
        end = await said(stream, "pipeline:order", "status_update")
        while end[-1].type != "pipeline:order" or '"status":"completed"' not in end[-1].data:
            end.append(await stream.next())
    began, went_on = by_topic(opening), by_topic(end)
    assert [name for name, _ in began["feed"]] == ["message"]
    ((_, initial),) = began["paused"]
    assert [entry["executionId"] for entry in initial["pausedWorkflows"]] == [first]
    assert {name for name, _ in began["pipeline:none"]} == {"batch_update", "error"}
    ((_, batch),) = began["pipeline:order"]
    assert batch["updates"] == [{"pipelineId": "order", "status": "paused"}]
    assert all(event.is_logged for event in end)
    assert [name for name, _ in went_on["paused"]] == ["workflow.resumed"]
    assert [data["status"] for _, data in went_on["pipeline:order"]][-1] == "completed"
    assert "pipeline:none" not in went_on
    everything = began[topics[0]] + went_on[topics[0]]
    assert everything == await log_of(stage, first)


async def test_another_replica_resumes_after_any_id(stage: TenantClient):
    """A resumed stream has no snapshots and all later events, for any order of topics."""
    await stage.store("order", ORDER)
    first = await stage.execute("order")
    await paused(stage, first)
    topics = ["paused", "feed", f"execution:{first}", "pipeline:order"]
    async with stage.stream(PATH + ",".join(topics)) as stream:
        start = await stream.primed()
        second = await stage.execute("order")
        events = await said(stream, "paused", "workflow.paused")
        while not [event for event in events if second in event.data and "paused" in event.type]:
            events.append(await stream.next())
        for execution in (first, second):
            await stage.post("/api/workflow/resume", executionId=execution)
        completed = 0
        while completed < 2:
            events.append(await stream.next())
            completed += '"progress":100' in events[-1].data
    everything = logged_events(events)
    ids = [start, *(event_id for event_id, _, _ in everything)]
    assert len(set(ids)) == len(ids)
    for number, event_id in enumerate(ids[:-1]):
        path = PATH + ",".join(reversed(topics))
        async with stage.stream(path, event_id, replica=1) as stream:
            rest = await stream.take(len(everything) - number + 1)
        assert [event.json()["event"] for event in rest if not event.is_logged] == ["message"]
        assert logged_events(rest) == everything[number:]


async def test_an_execution_that_is_not_there_is_an_error_in_its_topic(stage: TenantClient):
    """Another tenant's is not there; the other topics go on."""
    await stage.store("order", ORDER)
    theirs = await stage.execute("order")
    other = stage._replace(tenant=f"{stage.tenant}-other")
    nobodys = theirs[:-4] + "0000"
    errors = []
    for execution in (theirs, nobodys):
        async with other.stream(f"{PATH}execution:{execution},paused") as stream:
            opening = await stream.take(2)
            await stream.primed()
        found = by_topic(opening)
        assert found["paused"] == [("paused.initial", {"pausedWorkflows": []})]
        (error,) = found[f"execution:{execution}"]
        errors.append((error[0], {**error[1], "message": error[1]["message"].split("'")[0]}))
        assert error[1]["execution_id"] == execution
    assert errors[0][0] == errors[1][0] == "error"
    assert errors[0][1]["message"] == errors[1][1]["message"] == "there is no execution "


async def test_an_ended_run_is_backfilled_and_the_stream_continues(stage: TenantClient):
    """Its topic is silent from then on."""
    await stage.store("quick", {"a": {"type": "transform", "with": {"value": "x" * 1000}}})
    done = await stage.execute("quick")
    await stage.ended(done)
    async with stage.stream(f"{PATH}execution:{done},feed") as stream:
        opening = await said(stream, f"execution:{done}", "execution:completed")
        assert by_topic(opening)[f"execution:{done}"] == await log_of(stage, done)
        await stream.primed()
        await stage.execute("quick")
        events = await said(stream, "feed", "progress")
    assert {event.type for event in events} == {"feed"}


@pytest.mark.parametrize(
    ("topics", "words"),
    [
        ("", ["name what to stream", "execution:<id>", "pipeline:<id>"]),
        (",", ["name what to stream"]),
        ("paused,nothing", ["'nothing' is no topic", "execution:<id>, paused"]),
        ("execution", ["'execution' is no topic"]),
        ("paused:x", ["'paused:x' is no topic"]),
        ("execution:", ["'' is not the id"]),
        ("execution:a.*", ["'a.*' is not the id"]),
        ("pipeline:%3E", ["'>' is not the id"]),
        ("feed%0D%0Adata:x", ["is no topic"]),
        ("execution:%0A", ["is not the id"]),
    ],
)
async def test_an_unknown_topic_is_refused(stage: TenantClient, topics: str, words: list[str]):
    """The problem names the field, and no stream begins."""
    answer: httpx.Response = await stage.http.get(PATH + topics)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert detail.startswith("topics: ")
    assert all(word in detail for word in words)


async def test_a_topic_that_is_named_twice_is_one(stage: TenantClient):
    """No event is repeated."""
    async with stage.stream(f"{PATH}paused,paused,feed") as stream:
        opening = await stream.take(2)
        await stream.primed()
    assert sorted(event.type for event in opening) == ["feed", "paused"]
