"""A list of paused workflows, whose page listens to the four events of its stream."""

import asyncio
import json
import urllib.request
from typing import Any, Final

from harness.http.front_end import front_end
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

SCRIPT: Final = """
const es = new EventSource('/api/workflow/paused-stream');
es.addEventListener('paused.initial', (e) => note('paused.initial', e));
es.addEventListener('workflow.paused', (e) => note('workflow.paused', e));
es.addEventListener('workflow.resumed', (e) => note('workflow.resumed', e));
es.addEventListener('workflow.cancelled', (e) => note('workflow.cancelled', e));
"""
PROCEDURE: Final = "payment-service.payments.trigger.completed"
PROCESS_ORDER: Final = {
    "id": "process-order",
    "name": "Order Processing",
    "input": {"type": "object", "required": ["orderId"]},
    "nodes": {
        "wait-payment": {
            "type": "await",
            "with": {"triggers": [PROCEDURE], "match": "event.orderId == input.orderId"},
            "timeout": "24h",
        },
        "ship": {"type": "log", "needs": ["wait-payment"], "with": {"message": "shipped"}},
    },
}


def execute(up: TailraceUp, order: str) -> str:
    """Execute the workflow as `curl -d` does: JSON under the type of a form."""
    body = json.dumps({"workflowId": "process-order", "input": {"orderId": order}}).encode()
    request = urllib.request.Request(f"{up.url}/api/workflow/execute", body)
    with urllib.request.urlopen(request) as response:
        execution: str = json.load(response)["executionId"]
    return execution


def until_paused(client: Client, execution: str) -> None:
    """Return once the log says that an execution is paused, whatever indexes say by then."""
    next(event for event in client.events(execution) if event.type == "execution:paused")


def polled(up: TailraceUp) -> Any:
    """Return the list as the polling route answers it."""
    with urllib.request.urlopen(f"{up.url}/api/workflow/paused") as response:
        return json.load(response)["pausedWorkflows"]


def names(noted: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return which events of which executions were noted."""
    return [(event["name"], event["data"]["executionId"]) for event in noted]


async def test_the_list_follows_every_pause_resumption_and_cancellation(
    system: TailraceUp, client: Client
):
    """Cut in the middle of a pause, it goes on at the other replica; each event comes once."""
    client.apply(PROCESS_ORDER)
    before = execute(system, "order_0")
    until_paused(client, before)
    async with front_end(SCRIPT, system.port, system.port + 1) as page:
        (initial,) = await page.seen("paused.initial", least=1)
        (listed,) = initial["data"]["pausedWorkflows"]
        assert listed["executionId"] == before
        page.gateway.cut_at = b'"orderId":"order_2'
        first = execute(system, "order_1")
        await page.seen("workflow.paused", least=1)
        second = execute(system, "order_2")
        await page.seen("workflow.paused", least=2)
        client.signal(PROCEDURE, {"orderId": "order_1"})
        await page.seen("workflow.resumed", least=1)
        client.cancel(second, reason="changed my mind")
        await page.seen("workflow.cancelled", least=1)
        client.signal(PROCEDURE, {"orderId": "order_0"})
        await page.seen("workflow.resumed", least=2)
        noted = await page.seen()
    assert names(noted[1:]) == [
        ("workflow.paused", first),
        ("workflow.paused", second),
        ("workflow.resumed", first),
        ("workflow.cancelled", second),
        ("workflow.resumed", before),
    ]
    paused, _, resumed, cancelled, _ = (event["data"] for event in noted[1:])
    assert paused == {
        **paused,
        "executionId": first,
        "workflowId": "process-order",
        "workflowName": "Order Processing",
        "pausedAt": "wait-payment",
        "waitingFor": [PROCEDURE],
        "variables": {"orderId": "order_1"},
    }
    assert paused["pausedTime"] < paused["timeoutAt"]
    assert {key: type(value) for key, value in listed.items()} == {
        key: type(value) for key, value in paused.items()
    }
    assert resumed["workflowId"] == "process-order"
    assert resumed["resumedFrom"] == "wait-payment"
    assert "changed my mind" in cancelled["reason"]
    # The greeting and the cut: two visits, the second with the id of what came last before it.
    assert [visit.last_event_id != "" for visit in page.gateway.visits] == [False, True]


async def test_a_list_and_its_polling_side_agree(system: TailraceUp, client: Client):
    """The initial list is what the polling route answers."""
    client.apply(PROCESS_ORDER)
    execution = execute(system, "order_9")
    until_paused(client, execution)
    listed = await asyncio.to_thread(polled, system)
    async with front_end(SCRIPT, system.port, system.port + 1) as page:
        (initial,) = await page.seen("paused.initial", least=1)
    assert initial["data"]["pausedWorkflows"] == listed
    assert listed[0]["executionId"] == execution
    client.cancel(execution)
    assert list(client.events(execution))[-1].type == "execution:cancelled"
