"""Messages that a client publishes to the feed of its tenant, on real services."""

from typing import Any

from harness.sse.client import SseEvent
from harness.sse.tenant_client import StreamReader, TenantClient

PATH = "/api/realtime/events"
PROGRESS = {"type": "progress", "poId": "test123", "progress": 50, "message": "Test message"}


async def until(stream: StreamReader, text: str) -> list[SseEvent]:
    """Read until an event has a text; return all that was read."""
    events = [await stream.next()]
    while text not in events[-1].data:
        events.append(await stream.next())
    return events


async def publish(stage: TenantClient, **message: Any) -> str:
    """Publish a message; return the id of its block."""
    answer = await stage.http.post("/api/realtime/publish", json=message)
    assert answer.status_code == 202, answer.text
    event_id: str = answer.json()["event_id"]
    return event_id


async def test_a_message_is_shown_between_the_events_of_runs(stage: TenantClient):
    """Under its type, as it was sent, with the time at which it was stored."""
    await stage.store("quick", {"a": {"type": "transform", "with": {"value": 1}}})
    async with stage.stream(PATH) as stream:
        await stream.primed()
        event_id = await publish(stage, **PROGRESS, timestamp=1, nested={"a": [None, "ü"]})
        (*_, event) = await until(stream, "test123")
        assert (event.type, event.id) == ("progress", event_id)
        data = event.json()
        assert data.pop("timestamp") > 1_700_000_000_000
        assert data == {**PROGRESS, "nested": {"a": [None, "ü"]}}
        execution = await stage.execute("quick")
        await until(stream, '"message":"completed"')
    # What looks for executions does not find it.
    listed = (await stage.http.get("/api/v1/executions")).json()["runs"]
    assert [run["execution_id"] for run in listed] == [execution]
    assert (await stage.http.get("/api/workflow/paused")).json() == {"pausedWorkflows": []}
    for path in ("/api/v1/executions/~feed", "/api/v1/sse/executions/~feed/stream"):
        assert (await stage.http.get(path)).status_code == 400


async def test_another_replica_resumes_over_messages(stage: TenantClient):
    """In order, each once, in the feed and in a stream of topics that has begun meanwhile."""
    async with stage.stream(PATH) as stream:
        begin = await stream.primed()
        ids = [await publish(stage, type=f"note-{number}", number=number) for number in range(5)]
        await until(stream, '"number":4')
    async with stage.stream(PATH, begin, replica=1) as resumed:
        events = await until(resumed, '"number":4')
    assert [event.id for event in events if event.type.startswith("note-")] == ids
    async with stage.stream(PATH, ids[2], replica=1) as resumed:
        events = await until(resumed, '"number":4')
    assert [event.id for event in events if event.type.startswith("note-")] == ids[3:]
    topics = "/api/v1/sse/stream?topics=feed,paused,pipeline:none,runs,stats"
    async with stage.stream(topics, replica=1) as stream:
        await stream.primed()
        await publish(stage, type="last")
        (*_, event) = await until(stream, '"event":"last"')
    assert (event.type, event.json()["data"]["type"]) == ("feed", "last")


async def test_what_is_no_message_is_refused(stage: TenantClient):
    """With its place; a message has a size limit."""
    for body in ({}, {"type": ""}, {"type": 7}, {"type": "a b"}, {"type": "a\nid: 1"}):
        answer = await stage.http.post("/api/realtime/publish", json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["pointer"] == "/type"
    large = {"type": "note", "text": "x" * 17_000}
    answer = await stage.http.post("/api/realtime/publish", json=large)
    assert (answer.status_code, "limit is 16384" in answer.json()["detail"]) == (413, True)
