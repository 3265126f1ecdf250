"""The event stream delivers each event once across broken connections."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.http.scripted_server import Respond, ScriptedServer
from tailrace.errors import RefusedError, UnreachableError
from tailrace.stream import ExecutionStream
from tailrace.transport import Transport

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
ENDED = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def stream_of(server: ScriptedServer, last_event_id: str = "", **options: float) -> ExecutionStream:
    """Return a stream that does not pause between its attempts."""
    transport = Transport(server.url, sleep=lambda _seconds: None)
    return ExecutionStream(transport, "e1", last_event_id, **options)


def answer(*blocks: bytes) -> bytes:
    """Return a response with these blocks, each as a chunk."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return HEAD + chunks + b"0\r\n\r\n"


def block(event_id: str, kind: str, **data: str) -> bytes:
    """Return the block of one event of the log."""
    payload = msgspec.json.encode({"type": kind, "data": data, "timestamp": "2026-01-01T00:00:00Z"})
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), kind.encode(), payload)


def log_of(count: int) -> dict[str, bytes]:
    """Return the blocks of an execution with ``count`` steps, by event id."""
    steps = {f"e-{n}-0": block(f"e-{n}-0", "step:completed", node_id=f"é{n}") for n in range(count)}
    end = f"e-{count}-0"
    return {**steps, end: block(end, "execution:completed", status="completed")}


def serve_log(log: dict[str, bytes], cuts: list[int]) -> Respond:
    """Return a script that serves the log from Last-Event-ID on, cut short while cuts last."""
    remaining = list(cuts)

    def respond(_line: str, headers: dict[str, str], _body: bytes) -> bytes:
        ids = list(log)
        last = headers.get("last-event-id")
        begin = ids.index(last) + 1 if last else 0
        if begin == len(ids):
            return ENDED
        whole = answer(
            b"event: connected\ndata: {}\n\n", *(log[event_id] for event_id in ids[begin:])
        )
        return whole[: remaining.pop(0)] if remaining else whole

    return respond


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    count=st.integers(0, 6),
    cuts=st.lists(st.integers(0, 1200), max_size=5),
)
def test_a_stream_cut_anywhere_yields_the_log(
    session_server: ScriptedServer, count: int, cuts: list[int]
) -> None:
    """Cut at any byte, in the headers, inside a character or between events: no gap, no double."""
    log = log_of(count)
    session_server.respond = serve_log(log, cuts)

    events = [event for event in stream_of(session_server) if event.type != "connected"]

    assert [event.id for event in events] == list(log)
    assert [event.data.get("node_id") for event in events[:-1]] == [f"é{n}" for n in range(count)]


def test_events_carry_type_data_and_time(server: ScriptedServer) -> None:
    """Events are returned as stored; events of the stream itself have no time."""
    server.respond = lambda *_: answer(
        b'event: connected\ndata: {"execution_id": "e1"}\n\n',
        block("e-1-0", "execution:failed", error_message="no"),
    )

    connected, failed = stream_of(server)

    assert (connected.type, connected.id, connected.data) == (
        "connected",
        "",
        {"execution_id": "e1"},
    )
    assert (failed.id, failed.data, failed.timestamp) == (
        "e-1-0",
        {"error_message": "no"},
        "2026-01-01T00:00:00Z",
    )


def test_an_id_without_data_moves_the_position_and_yields_nothing(server: ScriptedServer) -> None:
    """Priming: a client that saw no event of its own still resumes from now."""
    script = iter([answer(b": hello\n\n", b"id: e-7-0\n\n", b"retry: 5\n\n"), ENDED])
    server.respond = lambda *_: next(script)
    stream = stream_of(server)

    assert list(stream) == []
    assert server.requests[1][1]["last-event-id"] == "e-7-0"
    assert stream.reconnects == 1


def test_a_stream_begins_after_the_id_it_is_given(server: ScriptedServer) -> None:
    """The id of a stream that was left goes into the first request."""
    server.respond = lambda *_: ENDED

    assert list(stream_of(server, "e-3-1")) == []
    assert server.requests[0][1]["last-event-id"] == "e-3-1"


def test_the_pause_is_the_one_that_the_server_asks_for(server: ScriptedServer) -> None:
    """A draining replica closes with a retry; only failures in a row make the pauses longer."""
    pauses: list[float] = []
    transport = Transport(server.url, sleep=pauses.append)
    draining = answer(b"retry: 250\n\n")
    script = iter([draining, draining, b"", b"", ENDED])
    server.respond = lambda *_: next(script)

    assert list(ExecutionStream(transport, "e1")) == []
    assert pauses == [0.25, 0.25, 0.5, 1.0]


def test_a_reset_reaches_the_caller(server: ScriptedServer) -> None:
    """Callers that fold events must start again; ids continue."""
    server.respond = lambda *_: answer(
        b'event: stream:reset\ndata: {"reason": "expired", "from": "e-4-0"}\n\n',
        block("e-4-0", "execution:completed"),
    )

    reset, end = stream_of(server, "e-1-0")

    assert (reset.type, reset.data["reason"]) == ("stream:reset", "expired")
    assert end.id == "e-4-0"


def test_a_refusal_ends_the_stream(server: ScriptedServer) -> None:
    """Another try would be refused again."""
    body = b'{"title": "Not Found", "status": 404, "detail": "there is no execution e1"}'
    server.respond = lambda *_: (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )

    with pytest.raises(RefusedError, match="there is no execution e1"):
        list(stream_of(server))
    assert len(server.requests) == 1


def test_an_unreachable_api_ends_the_stream_after_the_timeout(server: ScriptedServer) -> None:
    """Restarting replicas are tolerated until then."""
    server.respond = lambda *_: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

    with pytest.raises(UnreachableError, match="503"):
        list(stream_of(server, reconnect_timeout=0.0))


def test_a_silent_connection_is_left(server: ScriptedServer) -> None:
    """Heartbeats come every fifteen seconds; a connection without them is dead."""
    silent = answer(b": hello\n\n").removesuffix(b"0\r\n\r\n")
    server.respond = lambda *_: silent if len(server.requests) <= 1 else ENDED
    server.holds = True

    assert list(stream_of(server, read_timeout=0.5)) == []
    assert len(server.requests) >= 2


def test_another_content_type_is_refused(server: ScriptedServer) -> None:
    """A proxy's login page also has status 200."""
    server.respond = lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

    with pytest.raises(UnreachableError, match="Content-Type"):
        list(stream_of(server, reconnect_timeout=0.0))
