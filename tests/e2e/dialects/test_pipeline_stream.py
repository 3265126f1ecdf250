"""The status stream of pipelines on real services: a batch first, then each change once."""

from typing import Any, Final

from harness.sse.client import SseEvent
from harness.sse.tenant_client import StreamReader, TenantClient

PIPELINES: Final = ["etl-a", "etl-b", "etl-c"]
QUERY: Final = f"?pipelineIds={','.join(PIPELINES)}"
PATH: Final = f"/ui-api/pipeline/status/stream{QUERY}"
NODES: Final = {
    "extract": {"type": "transform", "with": {"value": 1}},
    "review": {"type": "await", "needs": ["extract"], "with": {"reason": "approval"}},
    "load": {"type": "log", "needs": ["review"], "with": {"message": "loaded"}},
}


async def changes(stream: StreamReader, count: int) -> list[SseEvent]:
    """Return the next changes of status; heartbeats in between are skipped."""
    found: list[SseEvent] = []
    while len(found) < count:
        event = await stream.next()
        if event.type != "heartbeat":
            found.append(event)
    return found


def transitions(events: list[SseEvent]) -> list[tuple[str, str, str]]:
    """Return the pipeline, the previous status and the status of each change."""
    found: list[tuple[str, str, str]] = []
    for event in events:
        change: dict[str, Any] = event.json()
        assert (event.type, change["type"]) == ("status_update", "status_update")
        assert isinstance(change["timestamp"], int)
        found.append((change["pipelineId"], change["previousStatus"], change["status"]))
    return found


async def test_each_change_of_status_comes_once(stage: TenantClient):
    """A resume on the other replica sends no second batch, only the changes since its id."""
    for name in PIPELINES:
        await stage.store(name, NODES)
    async with stage.stream(PATH) as stream:
        batch = (await stream.next()).json()
        first = await stage.execute("etl-a")
        before = await changes(stream, 2)
    second = await stage.execute("etl-b")
    async with stage.stream(PATH, before[-1].id, replica=1) as stream:
        since = await changes(stream, 2)
        for execution in (first, second):
            await stage.post("/api/workflow/resume", executionId=execution)
            since += await changes(stream, 2)
        while (heartbeat := await stream.next()).type != "heartbeat":
            pass
    assert batch["type"] == "batch_update"
    assert batch["updates"] == [{"pipelineId": name, "status": "idle"} for name in PIPELINES]
    assert transitions(before + since) == [
        ("etl-a", "idle", "active"),
        ("etl-a", "active", "paused"),
        ("etl-b", "idle", "active"),
        ("etl-b", "active", "paused"),
        ("etl-a", "paused", "active"),
        ("etl-a", "active", "completed"),
        ("etl-b", "paused", "active"),
        ("etl-b", "active", "completed"),
    ]
    assert heartbeat.json().keys() == {"type", "timestamp"}


async def test_polling_returns_what_the_stream_shows(stage: TenantClient):
    """The status route and the health route agree with the first batch of a new stream."""
    for name in PIPELINES:
        await stage.store(name, NODES)
    execution = await stage.execute("etl-a")
    async with stage.stream(PATH) as stream:
        while "paused" not in (await stream.next()).data:
            pass
        await stage.post("/api/workflow/resume", executionId=execution)
        while "completed" not in (await stream.next()).data:
            pass
    async with stage.stream(PATH) as stream:
        batch = (await stream.next()).json()
    polled = (await stage.http.get(f"/ui-api/pipeline/status{QUERY}")).json()
    expected = {"etl-a": "completed", "etl-b": "idle", "etl-c": "idle"}
    for answer in (batch, polled):
        assert {each["pipelineId"]: each["status"] for each in answer["updates"]} == expected
    health = (await stage.http.get("/pipeline/etl-a/health")).json()
    assert health["status"] == "completed"
