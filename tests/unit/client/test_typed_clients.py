"""Both clients: the same methods, typed documents, results and streams of topics."""

import inspect
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from harness.http.scripted_server import ScriptedServer
from tailrace import AsyncClient, Client, RunFailedError
from tailrace.documents import RunDocument, Step
from tailrace.errors import RefusedError
from tailrace.stream import groups_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DOCUMENT = {
    "execution_id": "e1",
    "status": "completed",
    "output": {"total": 7},
    "steps": [{"node_id": "a", "status": "success", "items": 3}],
    "from_the_future": 1,
}


def json_answer(document: Any) -> bytes:
    """Return a response with a JSON body."""
    body = msgspec.json.encode(document)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def block(event_id: str, kind: str, data: Any) -> bytes:
    """Return one event of a stream."""
    encoded = msgspec.json.encode(data)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), kind.encode(), encoded)


def respond(line: str, _headers: dict[str, str], _body: bytes) -> bytes:
    """Answer as an API with one run and two topics a stream."""
    if "/runs " in line or "/rerun " in line:
        return json_answer({"execution_id": "e1", "status": "queued", "stream_url": "/x"})
    if "/me " in line:
        return json_answer({"limits": {"max_stream_topics": 2}})
    if "/sse/executions/" in line:
        end = {"type": "execution:completed", "data": {"status": "completed"}, "timestamp": "t"}
        return HEAD + block("1-1-0", "execution:completed", end)
    if "/sse/stream" in line:
        topics = line.split("topics=")[1].split(" ", maxsplit=1)[0].split("%2C")
        events = [
            block(f"1-{n}-0", topic, {"topic": topic, "event": "said", "data": {"n": n}})
            for n, topic in enumerate(topics, 1)
        ]
        return HEAD + b"".join(events)
    return json_answer(DOCUMENT)


def public(kind: type) -> dict[str, Any]:
    """Return the public methods of a client, without those of its protocol."""
    return {name: vars(kind)[name] for name in vars(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    """Except for the keyword ``async``."""
    sync, other = public(Client), public(AsyncClient)
    assert sync.keys() == other.keys()
    for name, method in sync.items():
        if inspect.isfunction(method):
            ours = inspect.signature(method).parameters
            assert list(ours) == list(inspect.signature(other[name]).parameters), name


def test_a_result_is_typed_and_whole(server: ScriptedServer) -> None:
    """Fields are attributes and keys; those that this client does not know are kept."""
    server.respond = respond
    with Client(server.url) as client:
        result = client.run("flow", {"x": 1}, tags=["a"]).result(timeout=60)
        assert client.rerun("e1", failed=True).result().status == "completed"
    assert isinstance(result, RunDocument)
    assert isinstance(result.step("a"), Step)
    assert (result.status, result["status"], result.steps[0]["items"]) == (
        "completed",
        "completed",
        3,
    )
    assert result.error is None
    assert result["from_the_future"] == 1
    assert msgspec.json.decode(msgspec.json.encode(result)) == DOCUMENT
    with pytest.raises(AttributeError):
        _ = result.sttus
    with pytest.raises(KeyError):
        result.step("b")


def test_an_output_becomes_a_type_unless_the_run_failed() -> None:
    """The error says why it failed."""

    @dataclass
    class Total:
        total: int

    assert RunDocument(DOCUMENT).output_as(Total) == Total(7)
    failed = RunDocument({**DOCUMENT, "status": "failed", "error": "a: broken"})
    with pytest.raises(RunFailedError, match="the run e1 is failed: a: broken"):
        failed.output_as(Total)


def test_a_wait_for_a_result_has_a_limit(server: ScriptedServer) -> None:
    """The run goes on; the stream may even end again and again."""
    server.respond = lambda *_: HEAD
    with Client(server.url) as client, pytest.raises(TimeoutError):
        client.result("e1", timeout=0.05)


async def test_the_asynchronous_client_does_the_same(server: ScriptedServer) -> None:
    """A run, its events and its result."""
    server.respond = respond
    async with AsyncClient(server.url) as client:
        run = await client.run("flow")
        assert [event.type async for event in client.events(run.execution_id)] == [
            "execution:completed"
        ]
        assert (await run.result(timeout=60)).output == {"total": 7}
        assert (await client.get("e1")).steps[0].node_id == "a"


def test_topics_are_divided_among_streams() -> None:
    """As many as the server allows, each topic once, in URLs of moderate length."""
    assert groups_of(["a", "b", "a", "c"], 2) == [["a", "b"], ["c"]]
    assert groups_of([], 2) == []
    long = [f"execution:{n:050}" for n in range(100)]
    groups = groups_of(long, 256)
    assert [topic for group in groups for topic in group] == long
    assert all(len(",".join(group)) <= 2100 for group in groups)


def test_a_stream_of_many_topics_is_one_iterator(server: ScriptedServer) -> None:
    """Here of two connections; each event names its topic."""
    server.respond = respond
    found: Counter[str] = Counter()
    with Client(server.url) as client:
        for event in client.stream(["feed", "runs", "stats"]):
            assert event.type == "said"
            found[event.topic] += 1
            if found.keys() == {"feed", "runs", "stats"}:
                break
    lines = {line for line, _headers, _body in server.requests if "/sse/stream" in line}
    assert len(lines) == 2


async def test_an_asynchronous_stream_of_many_topics(server: ScriptedServer) -> None:
    """The same on an event loop."""
    server.respond = respond
    found: set[str] = set()
    async with AsyncClient(server.url) as client:
        async for event in client.stream(["feed", "runs", "stats"]):
            found.add(event.topic)
            if len(found) == 3:
                break
    assert found == {"feed", "runs", "stats"}


def test_a_stream_that_the_server_refuses_for_good_is_an_error(server: ScriptedServer) -> None:
    """With the reason, and no reconnect."""
    refused = block("1-1-0", "stream:refused", {"reason": "unknown", "retry_ms": None})

    def refuse(line: str, headers: dict[str, str], body: bytes) -> bytes:
        return HEAD + refused if "/sse/stream" in line else respond(line, headers, body)

    server.respond = refuse
    with Client(server.url) as client, pytest.raises(RefusedError, match="unknown"):
        list(client.stream(["feed"]))
