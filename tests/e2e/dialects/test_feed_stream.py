"""A tenant's feed on real services: orders beside each other, stage by stage."""

import asyncio
from typing import Any

from harness.sse.tenant_client import StreamReader, TenantClient, logged_events

PATH = "/api/realtime/events"
ORDER = {
    "parse": {
        "type": "transform",
        "stage": "ai_parsing",
        "with": {"value": {"lineItems": [1, 2, 3], "confidence": 0.93}},
    },
    "pages": {
        "type": "map",
        "stage": "ocr",
        "needs": ["parse"],
        "with": {
            "for_each": "[1, 2]",
            "do": {"type": "simulate", "with": {"duration": "50ms", "progress": True}},
        },
    },
    "sync": {
        "type": "fail",
        "stage": "shopify_sync",
        "needs": ["pages"],
        "when": "input.broken",
        "with": {"message": "shop is\\r\\nclosed"},
    },
}


async def greeted(stage: TenantClient, stream: StreamReader) -> None:
    """Read the greeting."""
    event = await stream.next()
    assert (event.type, event.is_logged) == ("message", False)
    assert event.json() == {
        "type": "connected",
        "merchantId": stage.tenant,
        "timestamp": event.json()["timestamp"],
    }


async def feed(stream: StreamReader, orders: int) -> list[tuple[str, str, Any]]:
    """Read until so many orders have ended: completed, or with their last error."""
    found: list[tuple[str, str, Any]] = []
    while orders:
        event = await stream.next()
        found += logged_events([event])
        data = event.json()
        is_end = data["type"] == "progress" and data["progress"] == 100 and "nodeId" not in data
        orders -= is_end or data["type"] == "error"
    return found


async def test_orders_go_through_their_stages(stage: TenantClient):
    """Each stage begins, is completed and says what it found; what breaks is an error of it."""
    await stage.store("order", ORDER)
    async with stage.stream(f"{PATH}?merchantId={stage.tenant}") as stream:
        await greeted(stage, stream)
        good = await stage.execute("order", {"poId": "po-1", "broken": False})
        bad = await stage.execute("order", {"po_id": "po-2", "broken": True})
        found = await feed(stream, 2)
    assert {data["executionId"] for _, _, data in found} == {good, bad}
    for order, execution, last in (
        ("po-1", good, []),
        ("po-2", bad, [("stage", "shopify_sync", "started"), ("error", "shopify_sync", None)]),
    ):
        mine = [data for _, name, data in found if data["poId"] == order]
        assert {data["executionId"] for data in mine} == {execution}
        assert {data["workflowId"] for data in mine} == {"order"}
        assert [
            (data["type"], data["stage"], data.get("status"))
            for data in mine
            if data["type"] != "progress"
        ] == [
            ("stage", "ai_parsing", "started"),
            ("stage", "ai_parsing", "completed"),
            ("completion", "ai_parsing", None),
            ("stage", "ocr", "started"),
            ("stage", "ocr", "completed"),
            ("completion", "ocr", None),
            *last,
        ]
        assert all(isinstance(data["timestamp"], int) for data in mine)
        progress = [data for data in mine if data["type"] == "progress"]
        assert progress[0]["progress"] == 0
        assert {data["stage"] for data in progress if "nodeId" in data} == {"ocr"}
    (completion,) = [
        data
        for _, name, data in found
        if name == "completion" and data["stage"] == "ai_parsing" and data["poId"] == "po-1"
    ]
    assert (completion["lineItems"], completion["confidence"]) == (3, 0.93)
    (error,) = [data for _, name, data in found if name == "error"]
    assert "shop is" in error["error"]


async def test_another_replica_resumes_after_any_id(stage: TenantClient):
    """An id between the two blocks of one event works too."""
    await stage.store("order", ORDER)
    async with stage.stream(PATH) as stream:
        await greeted(stage, stream)
        start = await stream.primed()
        await asyncio.gather(
            *(stage.execute("order", {"poId": f"po-{n}", "broken": n % 2 == 1}) for n in range(3))
        )
        everything = await feed(stream, 3)
    ids = [start, *(event_id for event_id, _, _ in everything)]
    assert len(set(ids)) == len(ids)
    for number, event_id in enumerate(ids[:-1]):
        async with stage.stream(PATH, event_id, replica=1) as stream:
            await greeted(stage, stream)
            rest = await stream.take(len(everything) - number)
        assert logged_events(rest) == everything[number:]


async def test_heartbeats_are_regular_and_carry_their_time(stage: TenantClient):
    """The time is in a comment of the stream."""
    async with stage.stream(PATH) as stream:
        await greeted(stage, stream)
        words = [comment.split() for comment in await stream.beaten(times=2)]
    assert {word for word, _ in words} == {"heartbeat"}
    first, second = (int(milliseconds) for _, milliseconds in words[:2])
    assert first < second


async def test_the_feed_of_another_tenant_is_another(stage: TenantClient):
    """Events of other tenants never appear, for any requested id."""
    await stage.store("order", ORDER)
    async with stage.stream(PATH) as stream:
        await greeted(stage, stream)
        await stage.execute("order", {"broken": True})
        events = await feed(stream, 1)
    other = stage._replace(tenant="other")
    async with other.stream(PATH, events[0][0]) as stream:
        await greeted(other, stream)
        await stream.beaten()
