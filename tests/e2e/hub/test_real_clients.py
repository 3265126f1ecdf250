"""Clients that people use: each connects, receives, is cut, resumes, and stops on 204."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import httpx
import pytest
from httpx_sse import aconnect_sse

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.http.browser import browser_page
from harness.http.cutting_gateway import CuttingGateway, cutting_gateway
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.required_tools import skip_or_fail

_HERE: Final = Path(__file__).parent
_NODE: Final = _HERE / "node"
_CUT: Final = "cut here"
_TYPES: Final = (
    "execution:queued",
    "execution:started",
    "step:started",
    "step:log",
    "execution:completed",
)


class Received(NamedTuple):
    """An event as a client hands it to its user."""

    id: str
    type: str
    data: str


Follow = Callable[[str], Coroutine[Any, Any, list[Received]]]


async def _chromium(url: str) -> list[Received]:
    """Follow with the EventSource of a browser, on the page of the URL's own origin."""
    origin, _, path = url.partition("/api/")
    page_url = origin + "/#" + urlencode({"url": f"/api/{path}", "type": _TYPES}, doseq=True)
    async with browser_page() as page:
        await page.goto(page_url)
        await page.wait_for_function("source.readyState === EventSource.CLOSED")
        received = await page.evaluate("received")
    return [Received(**event) for event in received]


async def _eventsource(url: str) -> list[Received]:
    """Follow with npm's ``eventsource``."""
    return await _node("eventsource.js", url)


async def _fetch_event_source(url: str) -> list[Received]:
    """Follow with npm's ``@microsoft/fetch-event-source``."""
    return await _node("fetch-event-source.js", url)


async def _node(script: str, url: str) -> list[Received]:
    program = shutil.which("node")
    if program is None:
        skip_or_fail("Node", "apt-get install nodejs npm, 20 or later")
    if not (_NODE / "node_modules").is_dir():
        skip_or_fail("what the Node clients need", f"npm ci --prefix {_NODE}")
    process = await asyncio.create_subprocess_exec(
        program, str(_NODE / script), url, *_TYPES, stdout=PIPE
    )
    output, _ = await process.communicate()
    # It ended by itself: nothing was left that would come back.
    assert process.returncode == 0
    *events, last = (json.loads(line) for line in output.splitlines())
    assert last == {"stopped": True}
    return [Received(**event) for event in events]


async def _httpx_sse(url: str) -> list[Received]:
    """Follow with ``httpx-sse``, which leaves coming back to its user."""
    received: list[Received] = []
    last_event_id, retry = "", 0
    async with httpx.AsyncClient() as client:
        while True:
            headers = {"last-event-id": last_event_id} if last_event_id else {}
            try:
                async with aconnect_sse(client, "GET", url, headers=headers) as source:
                    if source.response.status_code == 204:
                        return received
                    async for event in source.aiter_sse():
                        last_event_id = event.id or last_event_id
                        retry = event.retry or retry
                        # The greeting has the id of the event before it, as in a browser.
                        if event.data and event.event != "connected":
                            received.append(Received(event.id, event.event, event.data))
            except httpx.TransportError:
                pass
            await asyncio.sleep(retry / 1000)


@pytest.fixture
async def site(
    nats_server: NatsServer, log: HandWrittenLog, tmp_path: Path
) -> AsyncIterator[CuttingGateway]:
    """A gate before an API whose clients come back soon; the log has a run that is going on."""
    with ApiProcess(nats_server.url, tmp_path, retry="50ms") as api:
        await log.begin()
        await log.commit(written.step_started("n"), written.step_log("n", "one"))
        async with cutting_gateway(api.port) as opened:
            opened.page = (_HERE / "browser_page.html").read_text()
            yield opened


@pytest.mark.parametrize(
    "follow",
    [
        _chromium,
        _eventsource,
        _fetch_event_source,
        _httpx_sse,
    ],
)
async def test_a_real_client_is_cut_resumes_and_stops(
    site: CuttingGateway, log: HandWrittenLog, follow: Follow
) -> None:
    """The cut is in the middle of an event; each event reaches the client's user once."""
    site.cut_at = _CUT.encode()
    path = f"/api/v1/sse/executions/{log.execution}/stream"
    following = asyncio.ensure_future(follow(f"http://127.0.0.1:{site.port}{path}"))
    async with asyncio.timeout(100):
        await _or_failed(site.await_stream_requests(1), following)
        await log.commit(written.step_log("n", "two"))
        # The first of these two arrives, of the second only a part.
        await log.commit(written.step_log("n", "three"), written.step_log("n", _CUT + "!"))
        await _or_failed(site.await_stream_requests(2), following)
        await log.commit(written.step_log("n", "five"))
        await log.complete({"done": True})
        received = await following
    ids = await event_ids(log)
    assert [event.id for event in received] == ids
    assert [event.type for event in received] == [kind for kind, _, _ in log.written]
    messages = [json.loads(event.data)["data"].get("message") for event in received]
    assert [message for message in messages if message] == [
        "one",
        "two",
        "three",
        _CUT + "!",
        "five",
    ]
    # Connected, reconnected after the cut and after the end, received 204, and stopped.
    cut = ids.index(f"{ids[0].split('-')[0]}-{log.last - 2}-1")
    first, second, third = (request.last_event_id for request in site.stream_requests)
    # A browser that is busy may throw away with a connection what it has not read of it yet.
    assert second in ["", *ids[:cut]]
    assert (first, third) == ("", ids[-1])
    # But for what a browser asks of every site.
    assert [status for status in site.statuses if status != 404] == [200, 200, 204]


async def _or_failed(awaited: Coroutine[Any, Any, None], following: asyncio.Future[Any]) -> None:
    """Wait for something, unless the client ends first."""
    waiting = asyncio.ensure_future(awaited)
    await asyncio.wait([waiting, following], return_when=asyncio.FIRST_COMPLETED)
    if following.done():
        waiting.cancel()
        following.result()
