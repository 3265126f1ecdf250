"""The event stream of one execution, across reconnects.

Every event carries the id from which the stream can resume. When a connection ends before the
execution, the next request sends the last id. The server delivers each event once and in order, so
that id is the only state. Three things end the stream: the execution's terminal event, a 204 (no
events after that id), and a refusal.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent, SSEError

from tailrace.errors import UnreachableError
from tailrace.transport import Transport, refusal

TERMINAL: Final = frozenset({"execution:completed", "execution:failed", "execution:cancelled"})
RESET: Final = "stream:reset"

READ_TIMEOUT_S: Final = 45.0
"""Silence after which a connection counts as dead: three heartbeats."""
RECONNECT_TIMEOUT_S: Final = 60.0
"""Time without any connection after which the API counts as unreachable."""
_MAX_RETRY_S: Final = 15.0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of an execution.

    Attributes:
        id: id to resume after this event; empty before the first event of the log.
        type: for example ``step:completed``.
        data: the event's data, as the API documents it for this type.
        timestamp: time of the commit (RFC 3339); empty for events of the stream itself, such as
            ``stream:reset``.
    """

    id: str
    type: str
    data: dict[str, Any]
    timestamp: str = ""


class ExecutionStream:
    """An iterator over the events of one execution.

    Attributes:
        last_event_id: the id to resume from; blocks with only an id advance it too.
    """

    def __init__(
        self,
        transport: Transport,
        execution_id: str,
        last_event_id: str = "",
        *,
        read_timeout: float = READ_TIMEOUT_S,
        reconnect_timeout: float = RECONNECT_TIMEOUT_S,
    ) -> None:
        self.last_event_id = last_event_id
        self.reconnects = 0
        self._transport = transport
        self._path = f"/api/v1/sse/executions/{execution_id}/stream"
        self._timeout = httpx.Timeout(10.0, read=read_timeout)
        self._reconnect_timeout = reconnect_timeout
        self._retry = 1.0
        self._connected = False
        self._ended = False

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the execution ends, and reconnect as often as necessary.

        Raises:
            RefusedError: the execution does not exist, or the token may not read it.
            UnreachableError: no connection for ``reconnect_timeout`` seconds.
        """
        failures = 0
        lost_at = time.monotonic()
        while True:
            self._connected = False
            try:
                yield from self._connection()
                reason: Exception = UnreachableError("the stream ended early")
            except (httpx.TransportError, SSEError) as error:
                reason = error
            if self._ended:
                return
            now = time.monotonic()
            if self._connected:
                failures, lost_at = 0, now
            elif now - lost_at >= self._reconnect_timeout:
                raise self._transport.unreachable(reason) from None
            # Back off only while the API is unreachable. After a draining replica closes the
            # stream, wait for the server's `retry` and resume at another replica.
            self._transport.sleep(min(self._retry * 2**failures, max(_MAX_RETRY_S, self._retry)))
            failures += 1
            self.reconnects += 1

    def _connection(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        with self._transport.http.stream(
            "GET", self._path, headers=headers, timeout=self._timeout
        ) as answer:
            if answer.status_code == 204:
                self._ended = True
                return
            if answer.status_code >= 500:
                # A replica is starting or stopping, or a proxy reports that.
                raise httpx.RemoteProtocolError(f"the API answered {answer.status_code}")
            if not answer.is_success:
                answer.read()
                raise refusal(answer)
            yield from self._events(EventSource(answer))

    def _events(self, source: EventSource) -> Iterator[Event]:
        for block in source.iter_sse():
            self._connected = True
            if block.retry is not None:
                self._retry = max(block.retry, 0) / 1000
            if block.id:
                self.last_event_id = block.id
            # It only advances the id; earlier versions sent a block without data.
            if block.event == "stream:position" or not block.data:
                continue
            event = _event(block)
            self._ended = event.type in TERMINAL
            yield event
            if self._ended:
                return


def _event(block: ServerSentEvent) -> Event:
    try:
        payload = msgspec.json.decode(block.data)
    except (ValueError, RecursionError) as error:
        raise SSEError(f"an event that is not JSON: {error}") from None
    inner = payload.get("data") if isinstance(payload, dict) else None
    if isinstance(inner, dict):
        return Event(block.id, block.event, inner, payload.get("timestamp", ""))
    return Event(block.id, block.event, payload if isinstance(payload, dict) else {})
