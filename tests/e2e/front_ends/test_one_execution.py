"""A page that shows one execution: its URL carries the token and the organisation."""

from typing import Any, Final

from harness.http.front_end import front_end
from harness.http.secured_system import SecuredSystem
from tailrace import Client

SCRIPT: Final = """
const url = `/api/v1/sse/executions/EXECUTION/stream` +
  `?Authorization=Bearer%20TOKEN&organization_id=org-456`;
const eventSource = new EventSource(url);
const TYPES = [
  'connected', 'step:started', 'step:completed', 'step:failed',
  'execution:completed', 'execution:failed', 'execution:paused',
];
for (const type of TYPES) eventSource.addEventListener(type, (event) => note(type, event));
eventSource.addEventListener('execution:completed', () => eventSource.close());
eventSource.addEventListener('execution:failed', () => eventSource.close());
"""
CONTRACT: Final[dict[str, Any]] = {
    "id": "contract",
    "nodes": {
        "draft": {"type": "transform", "with": {"value": {"document_id": "doc-1"}}},
        "sign": {"type": "await", "needs": ["draft"], "with": {"reason": "approval"}},
        "send": {
            "type": "fail",
            "needs": ["sign"],
            "with": {"message": "Falha ao enviar para assinatura"},
        },
    },
}


async def test_a_failing_run_is_shown_step_by_step(secured: SecuredSystem, client_456: Client):
    """The page receives each event it listens to once, in the order of the log, through a cut."""
    client_456.apply(CONTRACT)
    execution = client_456.run(CONTRACT["id"], {})["execution_id"]
    script = SCRIPT.replace("EXECUTION", execution).replace("TOKEN", secured.token("org-456"))
    async with front_end(script, secured.up.port, secured.up.port + 1) as page:
        await page.seen("execution:paused", least=1)
        page.gateway.cut_at = b'"node_id":"send"'
        client_456.resume(execution)
        await page.seen("execution:failed", least=1)
        noted = await page.seen()
    logs = client_456.get(execution, include_logs=True)["logs"]
    listened = {
        *("step:started", "step:completed", "step:failed"),
        *("execution:failed", "execution:paused"),
    }
    events = [event for event in noted if event["name"] != "connected"]
    assert [(event["id"], event["data"]) for event in events] == [
        (entry["id"], {key: entry[key] for key in ("type", "data", "timestamp")})
        for entry in logs
        if entry["type"] in listened
    ]
    by_name = {event["name"]: event["data"] for event in noted}
    assert by_name["connected"] == {"execution_id": logs[0]["data"]["execution_id"]}
    assert by_name["execution:paused"]["data"]["reason"] == "approval"
    assert by_name["step:failed"]["data"]["error"] == "Falha ao enviar para assinatura"
    assert "Falha ao enviar" in by_name["execution:failed"]["data"]["error_message"]
    (draft,) = [
        event["data"]["data"]
        for event in events
        if event["name"] == "step:completed" and event["data"]["data"]["node_id"] == "draft"
    ]
    assert draft["node_type"] == "transform"
    assert draft["status"] == "success"
    assert draft["output"] == {"document_id": "doc-1"}
    assert draft["duration_ms"] >= 0
    assert len(page.gateway.stream_requests) == 2
