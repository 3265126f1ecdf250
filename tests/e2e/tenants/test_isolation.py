"""Tenant isolation: no route lets a tenant see, count, change or stop data of another.

Requests are generated for all operations of the app, so new operations are covered, too. Each
request is made twice: about data of another tenant, and about data that does not exist. The
responses and their cost must not differ.
"""

import asyncio
import random
import re
from typing import Any, Final, NamedTuple

import httpx
import pytest

from harness.http.generated_requests import Names, Request, operations_of, requests_of
from harness.http.tenants import Tenant, Tenants
from harness.http.token_issuer import bearer, token
from harness.sse.client import SseClient, SseEvent

# Installation-wide numbers and times differ between any two requests.
_CHANGING: Final = re.compile(
    r'"(?:version|timestamp|next_at|retry_ms|event_id)":\s*[^,}]+'
    r"|retry: \d+|\d{10,}|\d{4}-\d\d-\d\dT[\d:.]+Z"
)


class Observed(NamedTuple):
    """A response, reduced to what two requests may be compared by."""

    status: int
    headers: dict[str, str]
    body: str
    requests: int


class Spy:
    """Makes requests and counts the NATS requests that they cause."""

    def __init__(self, tenants: Tenants) -> None:
        self._api = tenants.api
        self._client: Any = tenants.api.hub.topics._subscription._client
        self._ann = tenants.ann

    async def ask(self, request: Request, headers: dict[str, str] | None = None) -> Observed:
        """Make a request as ann."""
        if request.is_stream:
            return await self._watch(request, headers or {})
        # The number of open streams is part of the response.
        await self._api.settled()
        before = self._client.stats["out_msgs"]
        answer = await self._ann.http.request(**request.arguments(), headers=headers)
        asked = self._client.stats["out_msgs"] - before
        return Observed(answer.status_code, dict(answer.headers), answer.text, asked)

    async def _watch(self, request: Request, headers: dict[str, str]) -> Observed:
        """Read a stream until it ends or is silent, ignoring heartbeats."""
        path = httpx.URL(request.path, params=request.query).raw_path.decode()
        events: list[SseEvent] = []
        async with SseClient(
            self._ann.port,
            path,
            method=request.method,
            headers={**self._ann.headers, **headers},
            body=request.body,
        ) as client:
            beats, was_live = 0, False
            # A heartbeat after the last write means that all events have arrived.
            while not (client.is_complete or (was_live and _beats(client, events) > beats)):
                beats, was_live = _beats(client, events), self._api.is_live(client)
                some = await client.read()
                if some is None:
                    break
                events += some
        lines = [f"{event.type} {event.id} {event.data}" for event in events]
        body = [line for line in lines if not line.startswith("heartbeat")] or [
            client._body.decode()
        ]
        return Observed(client.status, dict(client.headers), f"{body}", 0)


def _beats(client: SseClient, events: list[SseEvent]) -> int:
    """Return the number of heartbeats, as comments or as events."""
    comments = client.parser.comments
    return sum(text.startswith("heartbeat") for text in comments) + sum(
        event.type == "heartbeat" for event in events
    )


def _names(bob: Tenant) -> list[tuple[Names, Names]]:
    """Return the names of bob's data, and names of the same form without data."""
    # A procedure without waiting steps: resuming one would change later responses.
    rest = ("markofann", "gone")
    return [
        (
            Names(execution, "bob-only", "bob-plan", *rest),
            Names(_next_to(execution), "non-only", "non-plan", *rest),
        )
        for execution in (bob.waiting, bob.completed, bob.cancelled)
    ]


def _next_to(execution: str) -> str:
    # Where it is a cursor, it must stand at the same place.
    return execution[:-1] + ("0" if execution[-1] != "0" else "1")


def _alike(said: Observed, names: Names) -> Observed:
    """Return a response with the request's names removed."""

    def plain(text: str) -> str:
        for name in (names.execution, names.workflow, names.schedule):
            text = text.replace(name, "NAME")
        # Ids that the request itself has created.
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|trt_[\w.-]+", "ID", text)
        return _CHANGING.sub("CHANGING", text)

    headers = {name: plain(value) for name, value in said.headers.items() if name != "date"}
    if said.status < 400:
        headers.pop("etag", None)
        headers.pop("content-length", None)
    return Observed(said.status, headers, plain(said.body), 0)


async def test_other_tenants_data_looks_like_missing_data(tenants: Tenants) -> None:
    """Same bytes, headers and number of NATS requests, for every input of an operation."""
    spy = Spy(tenants)
    tried = refused = 0
    for theirs, nobodys in _names(tenants.bob):
        for operation in operations_of(tenants.api):
            for request, other in zip(
                requests_of(operation, theirs), requests_of(operation, nobodys), strict=True
            ):
                if request.is_stream:
                    said, counted = await asyncio.gather(spy.ask(request), spy.ask(other))
                else:
                    # Sequential, because their NATS requests are counted.
                    said, counted = await spy.ask(request), await spy.ask(other)
                assert _alike(said, theirs) == _alike(counted, nobodys), request
                tried += 1
                if said.status < 400 or request.is_stream:
                    continue
                refused += 1
                # Background requests happen occasionally.
                costs = {said.requests}, {counted.requests}
                while not costs[0] & costs[1]:
                    assert len(costs[0] | costs[1]) < 10, (request, costs)
                    costs[0].add((await spy.ask(request)).requests)
                    costs[1].add((await spy.ask(other)).requests)
    assert tried > 100
    assert refused > 50


async def test_no_operation_affects_another_tenant(tenants: Tenants) -> None:
    """Every operation, in any order, with the other's ids and with shared ids."""
    ann, bob = tenants.ann, tenants.bob
    before = await bob.snapshot()
    spy = Spy(tenants)
    requests = [
        request
        for execution in (bob.waiting, bob.completed, bob.cancelled, ann.waiting)
        for workflow, schedule in (("flow", "nightly"), ("bob-only", "bob-plan"))
        for operation in operations_of(tenants.api)
        for request in requests_of(operation, Names(execution, workflow, schedule, ann.marker))
        if operation.method != "GET"
    ]
    random.Random(17).shuffle(requests)
    for request in requests:
        said = await spy.ask(request)
        asked = f"{request}"
        if "/bob-plan" in request.path:
            # A plan of hers that has this name, and is for that workflow, may be stored by now.
            asked += "bob-only"
        for secret in bob.own:
            if secret not in asked:
                assert secret not in f"{said.headers}{said.body}", request
    assert await bob.snapshot() == before
    emitted = await ann.http.post("/api/v1/triggers/go", json={})
    assert emitted.status_code == 202
    assert await bob.snapshot() == before
    # And his own trigger resumes what is his.
    emitted = await bob.http.post("/api/v1/triggers/go", json={})
    assert emitted.json() == {"matched": 1}
    await bob.until(bob.waiting, "execution:completed")


async def test_no_readable_response_shows_another_tenant(tenants: Tenants) -> None:
    """All GET routes and streams, with own ids and the other's ids."""
    ann, bob = tenants.ann, tenants.bob
    spy = Spy(tenants)
    for execution, workflow, schedule in (
        (ann.waiting, "flow", "nightly"),
        (ann.completed, "quick", "ann-plan"),
        (ann.cancelled, "ann-only", "nightly"),
        (bob.waiting, "flow", "nightly"),
        (bob.completed, "bob-only", "bob-plan"),
    ):
        names = Names(execution, workflow, schedule, ann.marker)
        for operation in operations_of(tenants.api):
            if operation.method != "GET":
                continue
            for request in requests_of(operation, names):
                said, asked = await spy.ask(request), f"{request}"
                for secret in bob.own:
                    if secret not in asked:
                        assert secret not in f"{said.headers}{said.body}", request
    assert len((await ann.http.get("/api/v1/executions")).json()["runs"]) == 3
    assert len((await ann.http.get("/api/v1/waiting")).json()["waiting"]) == 1


async def test_open_streams_show_no_other_tenant(tenants: Tenants) -> None:
    """While both start runs and decide, each sees all of its own events and no others."""
    ann, bob = tenants.ann, tenants.bob
    names = Names(ann.waiting, "flow", "nightly")
    paths = [
        httpx.URL(request.path, params=request.query).raw_path.decode()
        for operation in operations_of(tenants.api)
        if operation.method == "GET"
        for request in requests_of(operation, names)[:1]
        if request.is_stream
    ]
    received: dict[str, bytes] = dict.fromkeys(paths, b"")
    came = asyncio.Condition()

    async def listen(path: str) -> None:
        async with SseClient(ann.port, path, headers=ann.headers) as client:
            while data := await client._reader.read(65536):
                received[path] += data
                async with came:
                    came.notify_all()
        async with came:
            came.notify_all()

    listeners = {path: asyncio.create_task(listen(path)) for path in paths}

    async def more(word: bytes) -> None:
        """Wait until a word has arrived once more on each open stream."""
        before = {path: data.count(word) for path, data in received.items()}
        async with came:
            await came.wait_for(
                lambda: all(
                    listener.done() or received[path].count(word) > before[path]
                    for path, listener in listeners.items()
                )
            )

    # A heartbeat comes after what there was.
    await more(b"heartbeat")
    for tenant in (bob, ann):
        answer = await tenant.http.post(
            "/api/v1/workflows/quick/runs", json={"input": {"marker": f"again {tenant.marker}"}}
        )
        await tenant.until(answer.json()["execution_id"], "execution:completed")
        await tenant.http.post(
            f"/api/v1/executions/{tenant.waiting}/resume",
            json={"data": {"marker": tenant.marker}},
        )
        await tenant.until(tenant.waiting, "execution:completed")
    await more(b"heartbeat")
    for listener in listeners.values():
        listener.cancel()
    await asyncio.gather(*listeners.values(), return_exceptions=True)
    assert ann.marker.encode() in b"".join(received.values())
    for path, data in received.items():
        assert b"HTTP/1.1 200 OK" in data, path
        for secret in bob.own:
            assert secret.encode() not in data, path


async def test_another_tenants_event_id_reveals_nothing(tenants: Tenants) -> None:
    """Resuming from it is refused like resuming from an id that never existed."""
    ann, bob = tenants.ann, tenants.bob
    logs = (await bob.http.get(f"/api/v1/executions/{bob.waiting}?include_logs=true")).json()[
        "logs"
    ]
    ids = [entry["id"] for entry in logs]
    epoch, sequence, _ = ids[-1].split("-")
    spy = Spy(tenants)
    names = Names(ann.waiting, "flow", "nightly", ann.marker)
    for operation in operations_of(tenants.api):
        request = requests_of(operation, names)[0]
        if not request.is_stream or "last_event_id" not in {
            parameter.name for parameter in operation.parameters
        }:
            continue
        never = f"{epoch}-{int(sequence)}-77"
        said = [await spy.ask(request, {"last-event-id": text}) for text in (*ids, never)]
        for one in said:
            assert bob.marker not in one.body
            assert bob.waiting not in one.body
        if "execution_id" in operation.path or operation.method == "POST":
            assert len({_alike(one, names)[:3:2] for one in said}) == 1, request


@pytest.mark.parametrize("way", ["x-organization-id", "organization_id", "merchantId"])
async def test_a_token_of_both_tenants_keeps_them_apart(tenants: Tenants, way: str) -> None:
    """A request sees only the tenant that it names."""
    both = bearer(token(org=None, orgs=["ann", "bob"]))
    async with httpx.AsyncClient(
        base_url=tenants.ann.http.base_url, headers=both, timeout=60
    ) as http:
        for tenant, other in ((tenants.ann, tenants.bob), (tenants.bob, tenants.ann)):
            place = "headers" if way.startswith("x-") else "params"
            arguments: dict[str, Any] = {place: {way: tenant.name}}
            listed = await http.get("/api/v1/executions", **arguments)
            assert tenant.waiting in listed.text
            assert other.waiting not in listed.text
            answer = await http.get(f"/api/v1/executions/{other.waiting}", **arguments)
            assert answer.status_code == 404
