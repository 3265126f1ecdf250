"""Start requests a few at a time, in turn for each caller.

Thousands of clients may send a request at the same moment, for example after a deployment. All of
their tasks in one iteration of the event loop would delay every other request by seconds. So each
iteration starts only a few, and callers that wait are served in turn. An iteration accepts a
hundred connections at most (`tailrace_api.http.accepts`): while it accepts any, others wait in the
kernel's queue, with that of a probe somewhere among them. Until that queue is empty, one request
starts in every second iteration. The headers that name a caller distinguish it; it is authenticated
later, by the request itself.

Streams and other requests wait in lines of their own. After a deployment the streams of hundreds of
tenants come at once, and a request would wait for one stream of each of these callers. While both
wait, three other requests start for each stream.

The first request of a connection waits as the bytes that were received, because thousands wait
together. The protocol of a connection, with its parser and a parsed request, takes ten times as
much memory.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

# A start takes less than a millisecond of CPU.
_AT_ONCE: Final = 4
_ACCEPTING_ITERATIONS: Final = 2
_OTHERS_PER_STREAM: Final = 3
_NAMES: Final = frozenset({b"authorization", b"x-organization-id"})
_CALLER: Final = re.compile(
    rb"\r\n(?:authorization|x-organization-id):[ \t]*([^\r\n]*?)[ \t]*(?=\r)", re.IGNORECASE
)
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_UNPARSED_BYTES: Final = 4096

Headers = Iterable[tuple[bytes, bytes]]
Caller = tuple[bytes, ...]
Start = Callable[[], None]


class _Line:
    """Requests that wait, by caller, in the order in which they are served."""

    def __init__(self) -> None:
        self._callers: dict[Caller, deque[Start]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._callers.values()))

    def __bool__(self) -> bool:
        return bool(self._callers)

    def add(self, caller: Caller, start: Start) -> None:
        self._callers.setdefault(caller, deque()).append(start)

    def take(self) -> Start:
        caller = next(iter(self._callers))
        starts = self._callers.pop(caller)
        start = starts.popleft()
        if starts:
            # At the end of the line: each caller has one request at a time.
            self._callers[caller] = starts
        return start


class RequestStarts:
    """The requests of a server that have not been started yet.

    Args:
        streams: matches the beginning of the request line of a stream.
    """

    def __init__(self, streams: re.Pattern[bytes]) -> None:
        self._is_stream = streams.match
        self._streams, self._others = _Line(), _Line()
        # How many other requests have started since a stream did.
        self._others_in_turn = 0
        # The number of requests that this iteration of the event loop may still start.
        self._left = _AT_ONCE
        self._is_scheduled = False
        self._has_accepted = False
        # The number of iterations in a row in which a connection was accepted.
        self._accepting = 0

    def note_connection(self) -> None:
        """Note that this iteration of the event loop has accepted a connection."""
        self._has_accepted = True
        self._schedule()

    def __len__(self) -> int:
        return len(self._streams) + len(self._others)

    @property
    def is_waiting(self) -> bool:
        """Whether a request that comes now would have to wait."""
        return bool(self._streams or self._others or not self._left)

    def add(self, method: str, path: bytes, headers: Headers, start: Start) -> None:
        """Start a request, now or in one of the next iterations of the event loop."""
        if self.is_waiting:
            caller = tuple(value for name, value in headers if name in _NAMES)
            self._add(b"%b %b " % (method.encode(), path), caller, start)
        else:
            self._left -= 1
            start()
            self._schedule()

    def add_unparsed(self, head: bytes, start: Start) -> None:
        """Start a request in one of the next iterations of the event loop.

        Args:
            head: the head of the request as it was received.
            start: parses and starts it.
        """
        self._add(head, tuple(_CALLER.findall(head)), start)

    def _add(self, request_line: bytes, caller: Caller, start: Start) -> None:
        line = self._streams if self._is_stream(request_line) else self._others
        line.add(caller, start)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled, self._left = False, _AT_ONCE
        self._accepting = self._accepting + 1 if self._has_accepted else 0
        self._has_accepted = False
        # The first connection is not yet a queue of them.
        if self._accepting > 1:
            self._left = 0 if self._accepting % _ACCEPTING_ITERATIONS else 1
        if self._streams or self._others or self._accepting:
            # First, so that a failing start does not leave the others waiting.
            self._schedule()
        while self._left and (line := self._next()):
            self._left -= 1
            line.take()()

    def _next(self) -> _Line:
        """Return the line whose turn it is; it is empty if no request waits."""
        if self._others and (self._others_in_turn < _OTHERS_PER_STREAM or not self._streams):
            self._others_in_turn += 1
            return self._others
        self._others_in_turn = 0
        return self._streams


class StartableProtocol(Protocol):
    """The protocol of a connection as it is created for a request that starts."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a connection over."""

    def data_received(self, data: bytes) -> None:
        """Parse input; a request may wait for its start."""

    def start(self, head: bytes) -> None:
        """Parse the head of a request and start it at once."""


class NewConnection(asyncio.Protocol):
    """The protocol of a connection until its first request starts.

    Args:
        starts: the requests of the server.
        connections: the open connections of the server.
        create: creates the protocol that parses requests.
        timeout: seconds that the client has to send something.
    """

    __slots__ = (
        "_connections",
        "_create",
        "_deadline",
        "_head",
        "_starts",
        "_timeout",
        "_transport",
    )

    def __init__(
        self,
        starts: RequestStarts,
        connections: set[Any],
        create: Callable[[], StartableProtocol],
        timeout: float,
    ) -> None:
        self._starts = starts
        self._connections = connections
        self._create = create
        self._timeout = timeout
        self._head: bytes | None = None
        self._transport: Any = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for input."""
        self._connections.add(self)
        self._starts.note_connection()
        self._transport = transport
        loop = asyncio.get_running_loop()
        # Browsers open speculative connections; those are closed without an answer.
        self._deadline = loop.call_later(self._timeout, transport.close)

    def data_received(self, data: bytes) -> None:
        """Keep the head of a request that has to wait; pass other input on."""
        self._cancel_deadline()
        if self._starts.is_waiting and _is_whole_head(data):
            self._head = data
            self._transport.pause_reading()
            self._starts.add_unparsed(data, self._start)
        else:
            self._give_up_connection().data_received(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Drop the request."""
        self._head = None
        self._cancel_deadline()
        self._connections.discard(self)

    def shutdown(self) -> None:
        """Close the connection, after the response if a request has been received."""
        if self._head is None:
            self._transport.close()
        else:
            self._start()
            # The protocol that has replaced this one.
            self._transport.get_protocol().shutdown()

    def _start(self) -> None:
        head, self._head = self._head, None
        if head is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._give_up_connection().start(head)

    def _give_up_connection(self) -> StartableProtocol:
        self._connections.discard(self)
        protocol = self._create()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        return protocol

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _is_whole_head(data: bytes) -> bool:
    is_short = len(data) <= _MAX_UNPARSED_BYTES
    return is_short and data.find(_END_OF_HEAD) == len(data) - len(_END_OF_HEAD)
