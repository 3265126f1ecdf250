"""Requests are started a few in an iteration of the event loop, in turn for each caller."""

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, Final, cast

import pytest

from tailrace_api.http.request_starts import NewConnection, RequestStarts

_AT_ONCE: Final = 4


_STREAMS: Final = re.compile(rb"GET /stream[? ]")


def _request(caller: str, path: bytes = b"/") -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """Return the method, path and headers of a request."""
    return "GET", path, [(b"host", b"h"), (b"x-organization-id", caller.encode())]


def _starts() -> RequestStarts:
    return RequestStarts(_STREAMS)


def _fill(starts: RequestStarts) -> None:
    """Start as many requests as may start in one iteration."""
    for _ in range(_AT_ONCE):
        starts.add(*_request("first"), lambda: None)


Add = Callable[[RequestStarts, str, bytes, Callable[[], None]], None]


def _add_parsed(starts: RequestStarts, caller: str, path: bytes, start: Callable[[], None]) -> None:
    starts.add(*_request(caller, path), start)


def _add_head(starts: RequestStarts, caller: str, path: bytes, start: Callable[[], None]) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: h\r\nX-Organization-ID:  %b\r\n\r\n"
    starts.add_unparsed(head % (path, caller.encode()), start)


async def test_a_few_requests_start_at_once_and_the_others_in_the_next_iterations() -> None:
    """In their order; afterwards requests start at once again."""
    starts, started = _starts(), list[int]()
    for number in range(10):
        starts.add(*_request("a"), lambda number=number: started.append(number))  # type: ignore[misc]
    assert started == [0, 1, 2, 3]
    assert len(starts) == 6
    await asyncio.sleep(0)
    assert started == list(range(8))
    await asyncio.sleep(0)
    assert (started, len(starts)) == (list(range(10)), 0)
    await asyncio.sleep(0)
    starts.add(*_request("a"), lambda: started.append(10))
    assert started[-1] == 10


@pytest.mark.parametrize("add", [_add_parsed, _add_head])
async def test_a_caller_does_not_wait_for_all_requests_of_another(add: Add) -> None:
    """One request of each caller at a time."""
    starts, started = _starts(), list[str]()
    _fill(starts)
    for number in range(100):
        add(starts, "crowd", b"/", functools.partial(started.append, f"crowd {number}"))
    add(starts, "other", b"/", functools.partial(started.append, "other"))
    await asyncio.sleep(0)
    assert "other" in started
    for _ in range(100):
        await asyncio.sleep(0)
    started.remove("other")
    assert started == [f"crowd {number}" for number in range(100)]


@pytest.mark.parametrize("add", [_add_parsed, _add_head])
async def test_other_requests_do_not_wait_for_the_streams_of_many_callers(add: Add) -> None:
    """Three of them start for each stream."""
    starts, started = _starts(), list[str]()
    _fill(starts)
    for number in range(100):
        add(starts, f"crowd {number}", b"/stream?a=b", functools.partial(started.append, "stream"))
    for number in range(5):
        add(starts, f"other {number}", b"/streams", functools.partial(started.append, "other"))
    for _ in range(2):
        await asyncio.sleep(0)
    assert started == [*3 * ["other"], "stream", *2 * ["other"], *2 * ["stream"]]
    for _ in range(100):
        await asyncio.sleep(0)
    assert (started.count("stream"), len(starts)) == (100, 0)


async def test_few_requests_start_while_connections_are_accepted() -> None:
    """One in two iterations; the rest once the queue of connections is empty."""
    starts, started = _starts(), list[int]()
    for number in range(80):
        starts.note_connection()
        starts.add(*_request(""), functools.partial(started.append, number))
        await asyncio.sleep(0)
    assert 38 <= len(started) <= 44
    for _ in range(80):
        await asyncio.sleep(0)
    assert started == [*range(80)]


class _Transport:
    """The part of a transport that a new connection uses."""

    def __init__(self) -> None:
        self.reading: list[bool] = []
        self.is_closed = False
        self.protocol: Any = None

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class _Parser:
    """The protocol that takes a connection over."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def connection_made(self, transport: Any) -> None:
        self.calls.append(("made", transport))

    def data_received(self, data: bytes) -> None:
        self.calls.append(("data", data))

    def start(self, head: bytes) -> None:
        self.calls.append(("start", head))

    def shutdown(self) -> None:
        self.calls.append(("shutdown", None))


class _Door:
    """The new connections of a server."""

    def __init__(self) -> None:
        self.starts = _starts()
        self.connections = set[Any]()
        self.parsers: list[_Parser] = []

    def connect(self) -> tuple[NewConnection, _Transport]:
        connection = NewConnection(self.starts, self.connections, self._create, 30.0)
        transport = _Transport()
        connection.connection_made(cast("asyncio.Transport", transport))
        return connection, transport

    def _create(self) -> _Parser:
        self.parsers.append(_Parser())
        return self.parsers[-1]

    def occupy(self) -> None:
        """Make requests that come now wait."""
        _fill(self.starts)
        self.starts.add(*_request("a"), lambda: None)


_HEAD: Final = b"GET / HTTP/1.1\r\nHost: h\r\nX-Organization-ID: acme \r\n\r\n"


async def test_input_is_parsed_at_once_while_no_request_waits() -> None:
    """As if the parser had been there from the beginning."""
    door = _Door()
    connection, transport = door.connect()
    assert door.connections == {connection}
    connection.data_received(_HEAD)
    (parser,) = door.parsers
    assert parser.calls == [("made", transport), ("data", _HEAD)]
    assert transport.protocol is parser
    assert not door.connections


@pytest.mark.parametrize("head", [b"GET / HT", _HEAD + b"GET", b"\r\n\r\n" + _HEAD, b"x" * 5000])
async def test_what_is_not_one_head_is_parsed_at_once(head: bytes) -> None:
    """The parser buffers it, or refuses it."""
    door = _Door()
    door.occupy()
    connection, _ = door.connect()
    connection.data_received(head)
    assert door.parsers[0].calls[-1] == ("data", head)


async def test_a_request_waits_as_bytes_without_a_parser() -> None:
    """Thousands may wait together."""
    door = _Door()
    door.occupy()
    connection, transport = door.connect()
    connection.data_received(_HEAD)
    assert not door.parsers
    assert transport.reading == [False]
    assert len(door.starts) == 2
    async with asyncio.timeout(60):
        while not door.parsers:  # noqa: ASYNC110 - the iterations are what it waits for
            await asyncio.sleep(0)
    assert door.parsers[0].calls == [("made", transport), ("start", _HEAD)]
    assert transport.reading == [False, True]
    assert not door.connections


async def test_a_client_that_has_gone_is_not_started() -> None:
    """Nothing is left of its request."""
    door = _Door()
    door.occupy()
    connection, _ = door.connect()
    connection.data_received(_HEAD)
    connection.connection_lost(None)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not door.parsers
    assert not door.connections


async def test_a_server_that_stops_answers_the_requests_that_wait() -> None:
    """And closes connections without a request."""
    door = _Door()
    door.occupy()
    waiting, _ = door.connect()
    _idle, idle_transport = door.connect()
    waiting.data_received(_HEAD)
    for connection in [*door.connections]:
        connection.shutdown()
    assert [what for what, _ in door.parsers[0].calls] == ["made", "start", "shutdown"]
    assert idle_transport.is_closed
