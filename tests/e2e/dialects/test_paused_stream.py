"""Paused workflows on real services: the list, its changes, its polling side and its commands."""

from typing import Any

from harness.sse.client import SseEvent
from harness.sse.tenant_client import StreamReader, TenantClient, logged_events

PATH = "/api/workflow/paused-stream"
ORDER = {
    "approve": {"type": "await", "with": {"reason": "approval"}},
    "pay": {"type": "await", "with": {"triggers": ["order.paid"], "match": "event.n == input.n"}},
}


async def opened(stream: StreamReader) -> dict[str, Any]:
    """Return the list with which a stream begins."""
    event = await stream.next()
    assert (event.type, event.is_logged) == ("paused.initial", False)
    found: dict[str, Any] = event.json()
    return found


async def polled(stage: TenantClient) -> dict[str, Any]:
    """Return what the polling side answers."""
    answer = await stage.http.get("/api/workflow/paused")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def changes(events: list[SseEvent]) -> list[tuple[str, str, str]]:
    """Return the changes of the list: the name, the execution and the step."""
    return [
        (
            event.type.partition(".")[2],
            event.json()["executionId"],
            event.json().get("pausedAt") or event.json().get("resumedFrom") or "",
        )
        for event in events
    ]


async def test_the_list_follows_pauses_signals_and_cancellations(stage: TenantClient):
    """The signals are commands of the page and triggers."""
    await stage.store("order", ORDER, name="Order Processing")
    async with stage.stream(PATH) as stream:
        assert await opened(stream) == {"pausedWorkflows": []}
        first = await stage.execute("order", {"n": 1})
        begun = await stream.take(2)
        assert sorted(changes(begun)) == [("paused", first, "approve"), ("paused", first, "pay")]
        await stage.post("/api/workflow/resume", executionId=first, node="approve", data={"x": 1})
        # The wait that goes on is repeated.
        repeated = [("resumed", first, "approve"), ("paused", first, "pay")]
        assert changes(await stream.take(2)) == repeated
        await stage.post("/api/v1/triggers/order.paid", n=1)
        assert changes(await stream.take(1)) == [("resumed", first, "pay")]
        await stage.ended(first)
        second = await stage.execute("order", {"n": 2})
        begun = await stream.take(2)
        listed = (await polled(stage))["pausedWorkflows"]
        assert {entry["pausedAt"]: entry for entry in listed} == {
            event.json()["pausedAt"]: event.json() for event in begun
        }
        await stage.post("/api/workflow/cancel", executionId=second, reason="enough")
        (end,) = await stream.take(1)
        assert (end.type, end.json()) == (
            "workflow.cancelled",
            {"executionId": second, "workflowId": "order", "reason": "enough"},
        )
    await stage.ended(second)
    assert await polled(stage) == {"pausedWorkflows": []}


async def test_listed_and_streamed_entries_have_the_same_fields(stage: TenantClient):
    """The workflow, the step, the triggers it waits for, its input and its timeout."""
    wait = {
        "type": "await",
        "with": {"triggers": ["order.paid"], "match": "event.orderId == input.orderId"},
        "timeout": "24h",
    }
    await stage.store("process-order", {"wait-payment": wait}, name="Order Processing")
    async with stage.stream(PATH) as stream:
        await opened(stream)
        execution = await stage.execute("process-order", {"orderId": "order-1"})
        (event,) = await stream.take(1)
    entry = event.json()
    assert entry == {
        **entry,
        "executionId": execution,
        "workflowId": "process-order",
        "workflowName": "Order Processing",
        "pausedAt": "wait-payment",
        "waitingFor": ["order.paid"],
        "variables": {"orderId": "order-1"},
    }
    assert entry["pausedTime"] < entry["timeoutAt"]
    async with stage.stream(PATH) as stream:
        (listed,) = await entries(stream)
    assert listed.keys() == entry.keys()
    assert listed["executionId"] == execution


async def test_a_list_begins_as_the_log_has_it_and_misses_nothing(stage: TenantClient):
    """At any time of connection, a client's list finally equals the log."""
    await stage.store("order", ORDER)
    executions: list[str] = []
    streams = []
    for number in range(4):
        executions.append(await stage.execute("order", {"n": number}))
        stream = stage.stream(PATH, replica=number % 2)
        await stream.__aenter__()
        streams.append(stream)
    for number in (0, 2):
        async with stage.stream(PATH) as watched:
            await in_list(watched, executions[number], "approve")
        await stage.post("/api/workflow/resume", executionId=executions[number], node="approve")
    await stage.post("/api/workflow/cancel", executionId=executions[1])
    await stage.ended(executions[1])
    expected = {
        (executions[0], "pay"),
        (executions[2], "pay"),
        (executions[3], "approve"),
        (executions[3], "pay"),
    }
    for stream in streams:
        known = {(entry["executionId"], entry["pausedAt"]) for entry in await entries(stream)}
        while known != expected:
            apply(known, await stream.next())
        await stream.__aexit__(None, None, None)
    now = {
        (entry["executionId"], entry["pausedAt"])
        for entry in (await polled(stage))["pausedWorkflows"]
    }
    assert now == expected


async def entries(stream: StreamReader) -> list[dict[str, Any]]:
    """Return the entries of the list with which a stream begins."""
    found: list[dict[str, Any]] = (await opened(stream))["pausedWorkflows"]
    return found


async def in_list(stream: StreamReader, execution: str, step: str) -> None:
    """Wait until a step waits."""
    known = {(entry["executionId"], entry["pausedAt"]) for entry in await entries(stream)}
    while (execution, step) not in known:
        apply(known, await stream.next())


def apply(known: set[tuple[str, str]], event: SseEvent) -> None:
    """Change what is known to wait as a page does; waits that go on are repeated."""
    ((change, execution, step),) = changes([event])
    if change == "paused":
        known.add((execution, step))
    elif step:
        assert (execution, step) in known
        known.remove((execution, step))
    else:
        known.difference_update({key for key in known if key[0] == execution})


async def test_another_replica_resumes_after_any_id(stage: TenantClient):
    """A resumed stream has no list, and each event after the id once."""
    await stage.store("order", ORDER)
    async with stage.stream(PATH) as stream:
        await opened(stream)
        start = await stream.primed()
        first, second = await stage.execute("order", {"n": 1}), await stage.execute("order")
        for execution in (first, second):
            async with stage.stream(PATH) as watched:
                await in_list(watched, execution, "approve")
                await stage.post("/api/workflow/cancel", executionId=execution)
        events = await stream.until(("workflow.cancelled", first), ("workflow.cancelled", second))
    everything = logged_events(events)
    ids = [start, *(event_id for event_id, _, _ in everything)]
    for number, event_id in enumerate(ids[:-1]):
        async with stage.stream(PATH, event_id, replica=1) as stream:
            rest = await stream.take(len(everything) - number)
        assert logged_events(rest) == everything[number:]
        assert all(event.is_logged for event in rest)


async def test_a_timeout_cancels_what_waited(stage: TenantClient):
    """At its step where the execution goes on, for the whole of it where it does not."""
    limited = {"type": "await", "timeout": "100ms"}
    await stage.store(
        "limits",
        {
            "fails": {**limited, "on_timeout": "fail"},
            "other": {"type": "await"},
        },
    )
    await stage.store("ends", {"ends": {**limited, "on_timeout": "cancel"}})
    async with stage.stream(PATH) as stream:
        await opened(stream)
        goes_on, ends = await stage.execute("limits"), await stage.execute("ends")
        events = await stream.until(("workflow.cancelled", goes_on), ("workflow.cancelled", ends))
    found = {
        event.json()["executionId"]: event.json()
        for event in events
        if event.type == "workflow.cancelled"
    }
    assert found[goes_on]["pausedAt"] == "fails"
    assert "pausedAt" not in found[ends]
    assert all("timed out" in each["reason"] for each in found.values())
    (entry,) = (await polled(stage))["pausedWorkflows"]
    assert (entry["executionId"], entry["pausedAt"]) == (goes_on, "other")


async def test_the_list_of_another_tenant_is_another(stage: TenantClient):
    """Nothing of it is seen, and an id of it tells nothing."""
    await stage.store("order", ORDER)
    async with stage.stream(PATH) as stream:
        await opened(stream)
        execution = await stage.execute("order")
        events = await stream.until(("workflow.paused", execution))
    other = stage._replace(tenant="other")
    async with other.stream(PATH) as stream:
        assert await opened(stream) == {"pausedWorkflows": []}
    async with other.stream(PATH, events[-1].id) as stream:
        await stream.beaten()
