"""A merchant's page in a browser: it shows purchase orders as they are processed."""

from typing import Any, Final

from harness.http.front_end import front_end
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

SCRIPT: Final = """
const eventSource = new EventSource(
  `/api/realtime/events?merchantId=merchant-7`,
  { withCredentials: true }
);
eventSource.onmessage = (e) => note('message', e);
eventSource.addEventListener('progress', (e) => note('progress', e));
eventSource.addEventListener('stage', (e) => note('stage', e));
eventSource.addEventListener('completion', (e) => note('completion', e));
eventSource.addEventListener('error', (e) => e.data && note('error', e));
"""
ORDER: Final = {
    "id": "purchase-order",
    "nodes": {
        "parse": {
            "type": "transform",
            "stage": "ai_parsing",
            "with": {"value": {"lineItems": [1, 2, 3], "confidence": 0.93}},
        },
        "save": {
            "type": "simulate",
            "stage": "saving",
            "needs": ["parse"],
            "with": {"duration": "600ms", "progress": True},
        },
        "sync": {
            "type": "fail",
            "stage": "shopify_sync",
            "needs": ["save"],
            "when": "input.broken",
            "with": {"message": "shop is closed"},
        },
    },
}
FIELDS: Final = {
    "progress": {"type", "poId", "workflowId", "progress", "message", "timestamp"},
    "stage": {"type", "stage", "poId", "workflowId", "status", "message", "timestamp"},
    "completion": {"type", "stage", "poId", "workflowId", "timestamp"},
    "error": {"type", "stage", "poId", "workflowId", "error", "timestamp"},
}


def start(client: Client, order: str, *, broken: bool) -> None:
    """Start a run for an order."""
    client.run("purchase-order", {"poId": order, "broken": broken})


def of_order(noted: list[dict[str, Any]], order: str, *names: str) -> list[tuple[str, str, str]]:
    """Return the event name, stage and status of each event of an order."""
    return [
        (event["name"], event["data"]["stage"], event["data"].get("status", ""))
        for event in noted
        if event["name"] in names and event["data"]["poId"] == order
    ]


async def test_orders_are_shown_stage_by_stage(system: TailraceUp):
    """Two concurrent orders, with a cut in the middle of an event: each event arrives once."""
    with Client(system.url, organization="merchant-7") as client:
        client.apply(ORDER)
        async with front_end(SCRIPT, system.port, system.port + 1) as page:
            (connected,) = await page.seen("message", least=1)
            start(client, "po-1", broken=False)
            # Now the page has an event id to resume from.
            await page.seen("stage", least=1)
            page.gateway.cut_at = b'"stage":"saving","poId":"po-2"'
            start(client, "po-2", broken=True)
            await page.seen("error", least=1)
            await page.seen("completion", least=4)
            noted = await page.seen()
    assert connected["data"].keys() == {"type", "merchantId", "timestamp"}
    assert connected["data"]["type"] == "connected"
    assert connected["data"]["merchantId"] == "merchant-7"
    for order, last in (
        ("po-1", []),
        ("po-2", [("stage", "shopify_sync", "started"), ("error", "shopify_sync", "")]),
    ):
        assert of_order(noted, order, "stage", "completion", "error") == [
            ("stage", "ai_parsing", "started"),
            ("stage", "ai_parsing", "completed"),
            ("completion", "ai_parsing", ""),
            ("stage", "saving", "started"),
            ("stage", "saving", "completed"),
            ("completion", "saving", ""),
            *last,
        ]
    for event in noted:
        if event["name"] != "message":
            assert event["data"].keys() >= FIELDS[event["name"]]
            assert event["data"]["type"] == event["name"]
            assert event["data"]["workflowId"] == "purchase-order"
            assert isinstance(event["data"]["timestamp"], int)
    parsed = next(event["data"] for event in noted if event["name"] == "completion")
    assert parsed["lineItems"] == 3
    assert parsed["confidence"] == 0.93
    for order in ("po-1", "po-2"):
        steps = [
            event["data"]["progress"]
            for event in noted
            if event["name"] == "progress" and event["data"]["poId"] == order
        ]
        assert steps == sorted(steps)
        assert steps[0] == 0
    error = next(event["data"] for event in noted if event["name"] == "error")
    assert "shop is closed" in error["error"]
    assert len({event["id"] for event in noted if event["name"] != "message"}) == len(
        [event for event in noted if event["name"] != "message"]
    )
