"""The page of many pipelines, whose manager listens to four events of one stream."""

import json
import urllib.request
from typing import Any, Final

from harness.http.front_end import front_end
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

SCRIPT: Final = """
const endpoint = '/ui-api/pipeline/status/stream';
const eventSource = new EventSource(`${endpoint}?pipelineIds=etl-a,etl-b,etl-c`);
for (const type of ['batch_update', 'status_update', 'heartbeat']) {
  eventSource.addEventListener(type, (event) => note(type, event));
}
eventSource.addEventListener('error', (event) => event.data && note('error', event));
"""
CUT: Final = b'"pipelineId":"etl-b","status":"paused"'


def pipeline(name: str) -> dict[str, Any]:
    """Return a workflow that waits for somebody in its middle."""
    return {
        "id": name,
        "nodes": {
            "extract": {"type": "transform", "with": {"value": 1}},
            "review": {"type": "await", "needs": ["extract"], "with": {"reason": "approval"}},
            "load": {"type": "log", "needs": ["review"], "with": {"message": "loaded"}},
        },
    }


def polled(up: TailraceUp, path: str) -> Any:
    """Return what a polling route answers."""
    with urllib.request.urlopen(up.url + path) as response:
        return json.load(response)


async def test_every_change_of_status_comes_once_and_only_changes_come(
    system: TailraceUp, client: Client
):
    """Through a cut in the middle of a change, which is resumed at the other replica."""
    for name in ("etl-a", "etl-b", "etl-c"):
        client.apply(pipeline(name))
    async with front_end(SCRIPT, system.port, system.port + 1) as page:
        (batch,) = await page.seen("batch_update", least=1)
        first = client.run("etl-a", {})["execution_id"]
        # From then on the page knows where it is, whatever it loses with its connection.
        await page.seen("status_update", least=2)
        page.gateway.cut_at = CUT
        second = client.run("etl-b", {})["execution_id"]
        await page.seen("status_update", least=4)
        client.resume(first)
        await page.seen("status_update", least=6)
        client.resume(second, decision="rejected")
        await page.seen("status_update", least=8)
        await page.seen("heartbeat", least=1)
        noted = await page.seen()
    assert batch["data"]["type"] == "batch_update"
    assert batch["data"]["updates"] == [
        {"pipelineId": name, "status": "idle"} for name in ("etl-a", "etl-b", "etl-c")
    ]
    changes = [event["data"] for event in noted if event["name"] == "status_update"]
    assert [
        (change["pipelineId"], change["previousStatus"], change["status"]) for change in changes
    ] == [
        ("etl-a", "idle", "active"),
        ("etl-a", "active", "paused"),
        ("etl-b", "idle", "active"),
        ("etl-b", "active", "paused"),
        ("etl-a", "paused", "active"),
        ("etl-a", "active", "completed"),
        ("etl-b", "paused", "active"),
        ("etl-b", "active", "completed"),
    ]
    for change in changes:
        assert change["type"] == "status_update"
        assert isinstance(change["timestamp"], int)
    heartbeat = next(event["data"] for event in noted if event["name"] == "heartbeat")
    assert heartbeat.keys() == {"type", "timestamp"}
    # After the cut there is no second batch: the changes go on where they were.
    assert len([event for event in noted if event["name"] == "batch_update"]) == 1
    assert len(page.gateway.visits) == 2
    statuses = polled(system, "/ui-api/pipeline/status?pipelineIds=etl-a,etl-b,etl-c")
    assert {each["pipelineId"]: each["status"] for each in statuses["updates"]} == {
        "etl-a": "completed",
        "etl-b": "completed",
        "etl-c": "idle",
    }
    assert polled(system, "/pipeline/etl-a/health")["status"] == "completed"
