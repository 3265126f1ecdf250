"""Streams that resume from an id whose history was deleted receive a reset, and no other do."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp
from harness.sse.client import SseClient, SseEvent, follow
from tailrace import Client
from tailrace.errors import RefusedError

_FEED: Final = "/api/realtime/events"
_WORKFLOW: Final = {
    "id": "resumed",
    "nodes": {"a": {"type": "transform", "stage": "ocr", "with": {"value": 1}}},
}
# A run of it is not deleted before it is approved or cancelled.
_WAITING: Final = {"id": "waiting", "nodes": {"ask": {"type": "await", "stage": "ocr"}}}


def exists(client: Client, execution: str) -> bool:
    """Tell whether the API has an execution."""
    try:
        client.get(execution)
    except RefusedError as error:
        return error.status != 404
    return True


async def deleted(client: Client, execution: str) -> None:
    """Wait until an execution is deleted, which no stream reports."""

    async def is_gone() -> bool:
        return not await asyncio.to_thread(exists, client, execution)

    await until(is_gone)


async def run(client: Client, workflow: str = "resumed") -> str:
    """Start a run; return its id."""
    started = await asyncio.to_thread(client.run, workflow)
    return str(started["execution_id"])


async def until_done(stream: SseClient, execution: str) -> list[SseEvent]:
    """Read a feed until an execution has completed."""
    events: list[SseEvent] = []
    async with asyncio.timeout(60):
        while True:
            (event,) = await stream.take(1)
            events.append(event)
            if execution in event.data and event.is_logged and '"progress":100' in event.data:
                return events


async def test_a_feed_tells_exactly_what_was_deleted(client: Client, system: TailraceUp) -> None:
    """An id from before the horizon is reset; one from after it misses nothing."""
    port = urlsplit(system.url).port
    assert port is not None
    await asyncio.to_thread(client.apply, _WORKFLOW)
    await asyncio.to_thread(client.apply, _WAITING)
    old = await run(client, "waiting")
    async with follow(port, old) as stream:
        (event,) = await stream.take(1)
        while not event.is_logged:
            (event,) = await stream.take(1)
        begin = event.id
    async with SseClient(port, _FEED) as stream:
        await stream.take(1)
        first = await run(client)
        events = await until_done(stream, first)
    early = next(event.id for event in events if event.is_logged)
    second = await run(client)
    await deleted(client, first)
    await deleted(client, second)

    async with SseClient(port, _FEED, last_event_id=early) as stream:
        kinds = [(event.type, event.is_logged) for event in await stream.take(2)]
        assert ("stream:reset", False) in kinds
        third = await run(client)
        await until_done(stream, third)
        late = stream.parser.last_event_id
    fourth = await run(client, "waiting")
    async with SseClient(port, _FEED, last_event_id=late) as stream:
        (event,) = await stream.take(1)
        while fourth not in event.data:
            assert event.type != "stream:reset"
            (event,) = await stream.take(1)
    # Nothing is missing of an execution that has not ended, however old the id.
    missed = (await logged(client, old))[1:]
    async with follow(port, old, begin) as stream:
        while missed:
            (event,) = await stream.take(1)
            if event.is_logged:
                assert event.type == missed.pop(0)
    await asyncio.to_thread(client.cancel, old)


async def logged(client: Client, execution: str) -> list[str]:
    """Return the types of the events in the log of an execution."""
    document = await asyncio.to_thread(client.get, execution, include_logs=True)
    return [entry["type"] for entry in document["logs"]]


async def test_a_deleted_execution_is_reported_once(client: Client, system: TailraceUp) -> None:
    """Its id gets a reset and the end; the id of the reset, and none at all, a 404."""
    port = urlsplit(system.url).port
    assert port is not None
    await asyncio.to_thread(client.apply, _WORKFLOW)
    await asyncio.to_thread(client.apply, _WAITING)
    execution = await run(client, "waiting")
    async with follow(port, execution) as stream:
        (event,) = await stream.take(1)
        while not event.is_logged:
            (event,) = await stream.take(1)
        first = event.id
        await asyncio.to_thread(client.cancel, execution)
        await stream.all()
    await deleted(client, execution)
    # The log goes on, so the id of the reset is one that the log has.
    await run(client)
    async with follow(port, execution, first) as stream:
        (reset,) = [event for event in await stream.all() if event.type == "stream:reset"]
        assert reset.json() == {"reason": "expired", "from": None}
        now = stream.parser.last_event_id
    for text in (now, ""):
        async with follow(port, execution, text) as stream:
            await stream.all()
        assert stream.status == 404
