"""Line ends in user input never become line ends in frames or headers (CWE-93).

The same history is written twice, once with harmless and once with hostile texts. A client must
parse the same events from both, except for the texts themselves.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import httpx
import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import NOW, HandWrittenLog
from harness.http.generated_requests import FLOW, Names, Request, operations_of, requests_of
from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.in_process_api import InProcessApi, api_in_process
from harness.sse.client import SseClient, SseEvent
from tailrace_shared.duration import Duration
from tailrace_shared.execution import events as ev

HARMLESS: Final = "harmless"
HOSTILE: Final = (
    "\r\ndata: {}\r\n\r\nevent: evil\r\nid: evil\r\nretry: 1\r\n\r\n",
    "\n\nevent: execution:completed\ndata: {}\n\n",
    "\r\r: comment\rid: 0-0-0\r\r",
    "\0\u2028\u2029\x85\x0b\x0c\x1c\ufeff</script>\x1b[2J",
)


def _history(execution: str, text: str) -> list[Any]:
    """Return events with a text in every field that holds user input."""
    step = ("ask", text)
    fields = {text: text}
    return [
        ev.ExecutionQueued(
            ev.Queued(execution, "flow", text, 1, {"marker": text, **fields}, "queued"), NOW
        ),
        ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW),
        ev.CommandRequested(
            ev.Command(execution, "pause", "c1", reason=text, actor=text, data=fields), NOW
        ),
        ev.ExecutionPaused(ev.Paused(execution, "paused", text, requested=True), NOW),
        ev.ExecutionResumed(ev.Resumed(execution, "running", resumed_from=text), NOW),
        ev.StepStarted(ev.StepBegun(*step, "running", 1, NOW, name=text, stage=text), NOW),
        ev.StepProgressed(ev.StepProgress(*step, 50.0, text, fields, stage=text), NOW),
        ev.StepLogged(ev.StepLog(*step, text, text, fields), NOW),
        ev.StepRetrying(ev.StepAgain(*step, "retrying", 1, "error", text, NOW), NOW),
        ev.StepWaiting(
            ev.StepWait(*step, "waiting", wait="signal", attempt=2, reason=text, triggers=[text]),
            NOW,
        ),
        ev.StepFailed(ev.StepError(*step, "error", 2, NOW, NOW, 5, text, stage=text), NOW),
        ev.StepStarted(ev.StepBegun("make", text, "running", 1, NOW, stage=text), NOW),
        ev.StepCompleted(
            ev.StepDone("make", text, "success", 1, NOW, NOW, 5, fields, stage=text), NOW
        ),
        ev.ExecutionFailed(ev.Failed(execution, "failed", 5, text, "ask"), NOW),
    ]


class Reader(NamedTuple):
    """The parsed contents of a stream.

    Attributes:
        types: The number of events by type.
        texts: The data of all events.
        ids: All last event ids.
        retries: The last reconnect delay.
        comments: All comments except heartbeats.
    """

    types: Counter[str]
    texts: list[Any]
    ids: set[str]
    retry: int | None
    comments: set[str]


async def _read(
    api: InProcessApi,
    path: str,
    headers: dict[str, str],
    begun: asyncio.Event,
    history: asyncio.Event,
) -> Reader:
    """Read a stream to its end, or for a while after the whole history has been written.

    Sets `begun` when the stream has its position in the log.
    """
    events: list[SseEvent] = []
    async with SseClient(api.port, path, headers=headers) as client:

        async def take() -> None:
            while (some := await client.read()) is not None:
                events.extend(some)
                if events or client.parser.first_id:
                    begun.set()

        taking = asyncio.create_task(take())
        await history.wait()
        await asyncio.wait([taking], timeout=3)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert client.status == 200
        parser = client.parser
    return Reader(
        # A stream of several topics names the execution.
        Counter(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", event.type) for event in events),
        [event.json() for event in events],
        {event.id for event in events} | {parser.last_event_id, *parser.positions},
        parser.retry,
        # The number of heartbeats depends on timing.
        {comment for comment in parser.comments if "heartbeat" not in comment},
    )


def _target(request: Request) -> str:
    return httpx.URL(request.path, params=request.query).raw_path.decode()


@pytest.fixture
async def api(idle_nats: NatsServer) -> AsyncIterator[InProcessApi]:
    """An API that serves the streams of this module."""
    async with api_in_process(
        idle_nats.url, auth="jwt", auth_secret=SECRET, heartbeat=Duration(0.5)
    ) as running:
        yield running


async def _write_and_read(
    api: InProcessApi, client: Client, tenant: str, text: str
) -> dict[str, Reader]:
    """Write a history while all streams are read; return what each has sent."""
    log = HandWrittenLog(client, tenant)
    headers = bearer(token(org=tenant))
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{api.port}", headers=headers, timeout=60
    ) as http:
        answer = await http.put("/api/v1/workflows/flow", json={**FLOW, "name": text})
        assert answer.status_code == 201, answer.text
    first, *rest = _history(log.execution, text)
    await log.commit(first)
    history = asyncio.Event()
    streams = {
        operation.path: (_target(request), asyncio.Event())
        for operation in operations_of(api)
        for request in requests_of(operation, Names(log.execution, "flow", "never"))[:1]
        if operation.method == "GET" and request.is_stream
    }
    reading = {
        path: asyncio.create_task(_read(api, target, headers, begun, history))
        for path, (target, begun) in streams.items()
    }
    # What a stream shows depends on where it begins.
    for _, begun in streams.values():
        await begun.wait()
    for event in rest:
        await log.commit(event)
    history.set()
    return {path: await task for path, task in reading.items()}


@pytest.mark.parametrize("text", HOSTILE, ids=["crlf", "lf", "cr", "others"])
async def test_a_text_stays_a_text_on_every_stream(
    api: InProcessApi, nats_client: Client, text: str
) -> None:
    """Same events, ids and delays as with a harmless text, and the text arrives complete."""
    number = HOSTILE.index(text)
    harmless, hostile = [
        await _write_and_read(api, nats_client, tenant, written)
        for tenant, written in ((f"calm-{number}", HARMLESS), (f"evil-{number}", text))
    ]
    assert harmless.keys() == hostile.keys()
    for path, reader in hostile.items():
        calm = harmless[path]
        # The snapshot of a tenant stream depends on when the stream begins.
        assert reader.types.keys() == calm.types.keys(), path
        if "{execution_id}" in path:
            assert reader.types == calm.types
        assert all(re.fullmatch(r"[0-9a-f]*-\d+-\d+(~[0-9.]+)?|", last) for last in reader.ids), (
            path
        )
        assert reader.retry != 1
        assert reader.comments == calm.comments
        assert bool(_texts(reader.texts, text)) == bool(_texts(calm.texts, HARMLESS)), path
    shown = hostile["/api/v1/sse/executions/{execution_id}/stream"].texts
    assert len(_texts(shown, text)) > 20


def _texts(value: Any, wanted: str) -> list[str]:
    """Return each occurrence of the text in a document."""
    if isinstance(value, dict):
        return [text for item in value.items() for text in _texts(list(item), wanted)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item, wanted)]
    return [wanted] if value == wanted else []


@pytest.mark.parametrize(
    "evil", ["%0d%0aset-cookie:%20evil=1", "%0aset-cookie:%20evil=1", "%00", "%E5%98%8A%E5%98%8D"]
)
async def test_input_never_writes_a_header(api: InProcessApi, evil: str) -> None:
    """Hostile text in path, query or body is refused or treated as text."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http:
        for operation in operations_of(api):
            for request in requests_of(operation, Names("missing", "nothing", "never")):
                if request.is_stream and operation.method == "GET" and "{" not in operation.path:
                    continue  # never ends; the last event id is tried below
                path = re.sub(r"missing|nothing|never|go|some-\w+", f"a{evil}", request.path)
                query = "&".join(f"{name}={evil}" for name in request.query)
                answer = await http.request(
                    request.method,
                    f"{path}?{query}",
                    json=request.body,
                    headers={**bearer(token()), "last-event-id": evil},
                )
                assert "set-cookie" not in answer.headers
                assert answer.status_code < 500, (request, answer.text)
        stream = f"/api/v1/sse/executions/missing/stream?last_event_id={evil}"
        answer = await http.get(stream, headers=bearer(token()))
        assert answer.status_code == 404
