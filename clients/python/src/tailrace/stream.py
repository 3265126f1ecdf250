"""Event streams of the API, across reconnects.

Every event carries the id from which the stream can resume. When a connection ends before the
stream, the next request sends the last id. The server delivers each event once and in order, so
that id is the only state. Three things end a stream: the terminal event of its execution, a 204 (no
events after that id), and a refusal.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent, SSEError

from tailrace.errors import RefusedError, UnreachableError
from tailrace.transport import AsyncTransport, Transport, refusal

TERMINAL: Final = frozenset({"execution:completed", "execution:failed", "execution:cancelled"})
RESET: Final = "stream:reset"

READ_TIMEOUT_S: Final = 45.0
"""Silence after which a connection counts as dead: three heartbeats."""
RECONNECT_TIMEOUT_S: Final = 60.0
"""Time without any connection after which the API counts as unreachable."""
_MAX_RETRY_S: Final = 15.0
_TOPICS_PATH: Final = "/api/v1/sse/stream"
# Topics are in the URL, whose length servers limit.
_MAX_TOPICS_CHARS: Final = 2000
_QUEUED_EVENTS: Final = 1000
_NO_CONTENT: Final = 204
_SERVER_ERROR: Final = 500


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of a stream.

    Attributes:
        id: id to resume after this event; empty before the first event of the log.
        type: for example ``step:completed``.
        data: the event's data, as the API documents it for this type.
        timestamp: time of the commit (RFC 3339); empty for events of the stream itself, such as
            ``stream:reset``.
        topic: the topic that it is of; empty on a stream of one execution.
    """

    id: str
    type: str
    data: Any
    timestamp: str = ""
    topic: str = ""


class _Stream:
    """The state of a stream across its connections. No I/O.

    Attributes:
        last_event_id: the id to resume from; blocks with only an id advance it too.
        reconnects: how often a connection was replaced.
    """

    def __init__(
        self,
        path: str,
        query: Mapping[str, str],
        last_event_id: str,
        read_timeout: float,
        reconnect_timeout: float,
        deadline: float | None = None,
    ) -> None:
        self.last_event_id = last_event_id
        self.reconnects = 0
        self.path = path
        self.query = query
        self.ended = False
        self._read_timeout = read_timeout
        self._reconnect_timeout = reconnect_timeout
        self._deadline = deadline
        self._retry = 1.0
        self._connected = False
        self._failures = 0
        self._lost_at = time.monotonic()

    def request(self) -> dict[str, Any]:
        """Return the options of the next request."""
        self._connected = False
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        left = self.time_left()
        read = self._read_timeout if left is None else min(left, self._read_timeout)
        timeout = httpx.Timeout(10.0, read=read)
        return {"headers": headers, "params": self.query, "timeout": timeout}

    def time_left(self) -> float | None:
        """Return the seconds until the caller stops waiting; None for no limit.

        Raises:
            TimeoutError: there are none.
        """
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the run has not ended in time")
        return left

    def accepts(self, answer: httpx.Response) -> bool:
        """Return whether events follow; False if the stream has ended.

        Raises:
            httpx.RemoteProtocolError: a replica is starting or stopping, or a proxy reports that.
        """
        if answer.status_code == _NO_CONTENT:
            self.ended = True
            return False
        if answer.status_code >= _SERVER_ERROR:
            raise httpx.RemoteProtocolError(f"the API answered {answer.status_code}")
        return True

    def take(self, block: ServerSentEvent) -> Event | None:
        """Take a block; return its event, if it has one."""
        self.time_left()
        self._connected = True
        if block.retry is not None:
            self._retry = max(block.retry, 0) / 1000
        if block.id:
            self.last_event_id = block.id
        # It only advances the id; earlier versions sent a block without data.
        if block.event == "stream:position" or not block.data:
            return None
        event = self.event_of(block)
        self.ended = self.is_last(event)
        return event

    def event_of(self, block: ServerSentEvent) -> Event:
        """Return the event of a block."""
        return event_of(block)

    def is_last(self, event: Event) -> bool:
        """Return whether the stream ends with an event."""
        return event.type in TERMINAL

    def delay(self, reason: Exception) -> float | None:
        """Return how long to wait before the next connection; None if the API is unreachable."""
        del reason
        self.time_left()
        now = time.monotonic()
        if self._connected:
            self._failures, self._lost_at = 0, now
        elif now - self._lost_at >= self._reconnect_timeout:
            return None
        # Back off only while the API is unreachable. After a draining replica closes the stream,
        # wait for the server's `retry` and resume at another replica.
        delay: float = min(self._retry * 2**self._failures, max(_MAX_RETRY_S, self._retry))
        self._failures += 1
        self.reconnects += 1
        return delay


class _TopicsState(_Stream):
    """The state of a stream of several topics, which ends only if it is refused."""

    def event_of(self, block: ServerSentEvent) -> Event:
        """Return the event of a block; its data names the topic."""
        payload = _decoded(block)
        if not (isinstance(payload, dict) and "topic" in payload):
            return _event(block.id, block.event, payload)
        inner = _event(block.id, str(payload.get("event", "")), payload.get("data"))
        return msgspec.structs.replace(inner, topic=payload["topic"])

    def is_last(self, event: Event) -> bool:
        """Return False: topics have no last event.

        Raises:
            RefusedError: the server will never serve this stream.
        """
        if event.type == "stream:refused" and event.data.get("retry_ms") is None:
            detail = str(event.data.get("detail") or event.data.get("reason"))
            raise RefusedError(400, "the stream is refused", detail)
        return False


_ENDED_EARLY: Final = "the stream ended early"


def _run(transport: Transport, state: _Stream) -> Iterator[Event]:
    """Yield the events of a stream until it ends, and reconnect as often as necessary.

    Raises:
        RefusedError: the API refuses the stream.
        UnreachableError: no connection for ``reconnect_timeout`` seconds.
        TimeoutError: the deadline has passed.
    """
    while True:
        try:
            yield from _connection(transport, state)
            reason: Exception = UnreachableError(_ENDED_EARLY)
        except (httpx.TransportError, SSEError) as error:
            reason = error
        if state.ended:
            return
        delay = state.delay(reason)
        if delay is None:
            raise transport.unreachable(reason) from None
        transport.sleep(delay)


def _connection(transport: Transport, state: _Stream) -> Iterator[Event]:
    with transport.http.stream("GET", state.path, **state.request()) as answer:
        if not state.accepts(answer):
            return
        if not answer.is_success:
            answer.read()
            raise refusal(answer)
        for block in EventSource(answer).iter_sse():
            if (event := state.take(block)) is not None:
                yield event
                if state.ended:
                    return


async def _run_async(transport: AsyncTransport, state: _Stream) -> AsyncIterator[Event]:
    """Do the same as :func:`_run` on an event loop."""
    while True:
        try:
            async for event in _async_connection(transport, state):
                yield event
            reason: Exception = UnreachableError(_ENDED_EARLY)
        except (httpx.TransportError, SSEError) as error:
            reason = error
        if state.ended:
            return
        delay = state.delay(reason)
        if delay is None:
            raise transport.unreachable(reason) from None
        await transport.sleep(delay)


async def _async_connection(transport: AsyncTransport, state: _Stream) -> AsyncIterator[Event]:
    async with transport.http.stream("GET", state.path, **state.request()) as answer:
        if not state.accepts(answer):
            return
        if not answer.is_success:
            await answer.aread()
            raise refusal(answer)
        async for block in EventSource(answer).aiter_sse():
            if (event := state.take(block)) is not None:
                yield event
                if state.ended:
                    return


class ExecutionStream(_Stream):
    """An iterator over the events of one execution."""

    def __init__(
        self,
        transport: Transport,
        execution_id: str,
        last_event_id: str = "",
        *,
        read_timeout: float = READ_TIMEOUT_S,
        reconnect_timeout: float = RECONNECT_TIMEOUT_S,
        deadline: float | None = None,
    ) -> None:
        path = f"/api/v1/sse/executions/{execution_id}/stream"
        super().__init__(path, {}, last_event_id, read_timeout, reconnect_timeout, deadline)
        self._transport = transport

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the execution ends, and reconnect as often as necessary.

        Raises:
            RefusedError: the execution does not exist, or the token may not read it.
            UnreachableError: no connection for ``reconnect_timeout`` seconds.
        """
        self._lost_at = time.monotonic()
        return _run(self._transport, self)


class AsyncExecutionStream(_Stream):
    """An asynchronous iterator over the events of one execution."""

    def __init__(
        self,
        transport: AsyncTransport,
        execution_id: str,
        last_event_id: str = "",
        *,
        read_timeout: float = READ_TIMEOUT_S,
        reconnect_timeout: float = RECONNECT_TIMEOUT_S,
    ) -> None:
        path = f"/api/v1/sse/executions/{execution_id}/stream"
        super().__init__(path, {}, last_event_id, read_timeout, reconnect_timeout)
        self._transport = transport

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events; see :meth:`ExecutionStream.__iter__`."""
        self._lost_at = time.monotonic()
        return _run_async(self._transport, self)


def groups_of(topics: Iterable[str], limit: int) -> list[list[str]]:
    """Divide topics among streams: each has at most ``limit``, and a URL of moderate length."""
    groups: list[list[str]] = []
    size = 0
    for topic in dict.fromkeys(topics):
        if not groups or len(groups[-1]) == limit or size + len(topic) > _MAX_TOPICS_CHARS:
            groups.append([])
            size = 0
        groups[-1].append(topic)
        size += len(topic) + 1
    return groups


def _topics_state(group: Sequence[str]) -> _TopicsState:
    query = {"topics": ",".join(group)}
    return _TopicsState(_TOPICS_PATH, query, "", READ_TIMEOUT_S, RECONNECT_TIMEOUT_S)


class TopicStream:
    """An iterator over the events of several groups of topics, one connection each.

    Args:
        groups: the topics of each connection.
    """

    def __init__(self, transport: Transport, groups: Sequence[Sequence[str]]) -> None:
        self._transport = transport
        self._states = [_topics_state(group) for group in groups]

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the caller stops.

        Raises:
            RefusedError: the API refuses a stream.
            UnreachableError: one has had no connection for a minute.
        """
        if len(self._states) == 1:
            yield from _run(self._transport, self._states[0])
            return
        merged: queue.Queue[Event | Exception] = queue.Queue(_QUEUED_EVENTS)
        stopped = threading.Event()
        for state in self._states:
            arguments = (self._transport, state, merged, stopped)
            threading.Thread(target=_forward, args=arguments, daemon=True).start()
        try:
            while self._states:
                item = merged.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()


def _forward(
    transport: Transport,
    state: _Stream,
    merged: "queue.Queue[Event | Exception]",
    stopped: threading.Event,
) -> None:
    """Put the events of one stream into a queue, until the reader of the queue has stopped."""

    def put(item: Event | Exception) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                merged.put(item, timeout=1.0)
                return

    try:
        for event in _run(transport, state):
            put(event)
            if stopped.is_set():
                return
    except Exception as error:  # noqa: BLE001 - raised in the thread of the reader
        put(error)


class AsyncTopicStream:
    """As :class:`TopicStream`, for an event loop."""

    def __init__(self, transport: AsyncTransport, groups: Sequence[Sequence[str]]) -> None:
        self._transport = transport
        self._states = [_topics_state(group) for group in groups]

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events; see :meth:`TopicStream.__iter__`."""
        merged: asyncio.Queue[Event | Exception] = asyncio.Queue(_QUEUED_EVENTS)

        async def forward(state: _Stream) -> None:
            try:
                async for event in _run_async(self._transport, state):
                    await merged.put(event)
            except Exception as error:  # noqa: BLE001 - raised where the events are read
                await merged.put(error)

        tasks = [asyncio.create_task(forward(state)) for state in self._states]
        try:
            while tasks:
                item = await merged.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def event_of(block: ServerSentEvent) -> Event:
    """Return the event of a block of a stream of one execution.

    Raises:
        SSEError: its data is not JSON.
    """
    return _event(block.id, block.event, _decoded(block))


def _decoded(block: ServerSentEvent) -> Any:
    try:
        return msgspec.json.decode(block.data)
    except (ValueError, RecursionError) as error:
        raise SSEError(f"an event that is not JSON: {error}") from None


def _event(event_id: str, kind: str, payload: Any) -> Event:
    inner = payload.get("data") if isinstance(payload, dict) else None
    if isinstance(inner, dict):
        return Event(event_id, kind, inner, payload.get("timestamp", ""))
    return Event(event_id, kind, payload if isinstance(payload, dict) else {})
