"""Start a run and stream it in one request, as a ``curl`` command does."""

from typing import Any, Final

import pytest

from harness.http.secured_system import SecuredSystem
from harness.sse.client import SseClient, SseEvent
from tailrace import Client

PATH: Final = "/api/v1/executions/stream"
FLOW: Final = {
    "id": "1",
    "name": "Three nodes",
    "nodes": {
        "node-1": {"type": "simulate", "with": {"duration": "300ms"}},
        "node-2": {"type": "simulate", "with": {"duration": "300ms"}, "needs": ["node-1"]},
        "node-3": {"type": "transform", "with": {"value": "${input}"}, "needs": ["node-2"]},
    },
}


def posted(secured: SecuredSystem, replica: int, last_event_id: str = "") -> SseClient:
    """Send the request: the workflow id as a number, the token in a header."""
    return SseClient(
        secured.up.port + replica,
        PATH,
        method="POST",
        last_event_id=last_event_id,
        headers={
            "Authorization": f"Bearer {secured.token('org-456')}",
            "Content-Type": "application/json",
        },
        body={"flow_id": 1, "input_data": {"a": 1}},
    )


def frames(events: list[SseEvent]) -> list[tuple[str, Any]]:
    """Return the type of each frame and its node, if it has one."""
    return [(event.json()["type"], event.json()["data"].get("node_id")) for event in events]


@pytest.mark.parametrize("cut", [800, 1200, 1900])
async def test_a_run_is_watched_through_a_cut(secured: SecuredSystem, client_456: Client, cut: int):
    """The same request with ``Last-Event-ID`` resumes the stream and starts no second run."""
    client_456.apply(FLOW)
    runs_before = len(client_456.list(workflow_id="1")["runs"])
    async with posted(secured, 0) as stream:
        received = await stream.until_cut(cut)
        last_event_id = stream.parser.last_event_id
    async with posted(secured, 1, last_event_id) as stream:
        received += await stream.all()
    assert len(client_456.list(workflow_id="1")["runs"]) == runs_before + 1
    assert {event.type for event in received} == {"message"}
    assert frames(received) == [
        ("executionStarted", None),
        ("nodeExecutionBefore", "node-1"),
        ("nodeExecutionAfter", "node-1"),
        ("nodeExecutionBefore", "node-2"),
        ("nodeExecutionAfter", "node-2"),
        ("nodeExecutionBefore", "node-3"),
        ("nodeExecutionAfter", "node-3"),
        ("executionFinished", None),
    ]
    (execution,) = {event.json()["data"]["execution_id"] for event in received}
    assert client_456.get(execution)["status"] == "completed"
    assert received[-1].json()["data"]["output"] == {"node-3": {"a": 1}}
    assert received[-2].json()["data"]["output"] == {"a": 1}


async def test_a_failure_is_the_last_frame(secured: SecuredSystem, client_456: Client):
    """It has the type ``executionError`` and the message of the step."""
    nodes = {"node-1": {"type": "fail", "with": {"message": "no such table"}}}
    client_456.apply({**FLOW, "nodes": nodes})
    async with posted(secured, 0) as stream:
        received = await stream.all()
    last = received[-1].json()
    assert last["type"] == "executionError"
    assert "no such table" in last["data"]["error"]
