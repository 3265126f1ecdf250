"""The event stream of one execution, read across broken connections.

A server-sent event carries the id from which the stream can go on. Whenever a connection ends
before the execution did, the next one asks for what came after the last id. The server promises
each event once and in order, so nothing is remembered here but that id. Three things end the
stream for good: the execution's terminal event, a 204 (there is nothing after that id), and a
refusal.

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

SILENCE: Final = 45.0
"""Seconds without a byte after which a connection counts as dead: three of the heartbeats."""
PATIENCE: Final = 60.0
"""Seconds without any connection after which the API counts as gone."""
_LONGEST_PAUSE: Final = 15.0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of an execution.

    Attributes:
        id: where to go on after this event; empty before the first event of the log.
        type: for example ``step:completed``.
        data: what happened, as the API documents it for this type.
        timestamp: when it was written to the log (RFC 3339); empty for events of the stream
            itself, such as ``stream:reset``.
    """

    id: str
    type: str
    data: dict[str, Any]
    timestamp: str = ""


class ExecutionStream:
    """An iterator over the events of one execution.

    Attributes:
        last_event_id: the id to resume from; also moved on by blocks that carry nothing else.
        reconnects: how often a connection was lost so far.
    """

    def __init__(
        self,
        transport: Transport,
        execution_id: str,
        last_event_id: str = "",
        *,
        silence: float = SILENCE,
        patience: float = PATIENCE,
    ) -> None:
        self.last_event_id = last_event_id
        self.reconnects = 0
        self._transport = transport
        self._path = f"/api/v1/sse/executions/{execution_id}/stream"
        self._timeout = httpx.Timeout(10.0, read=silence)
        self._patience = patience
        self._retry = 1.0
        self._connected = False
        self._ended = False

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the execution ends, over as many connections as it takes.

        Raises:
            RefusedError: there is no such execution, or it may not be read.
            UnreachableError: no connection for as long as the patience lasts.
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
            elif now - lost_at >= self._patience:
                raise self._transport.unreachable(reason) from None
            # Doubled only while the API stays away: a stream that a draining replica closed
            # goes on at the next one after the pause that the server asked for.
            self._transport.sleep(min(self._retry * 2**failures, max(_LONGEST_PAUSE, self._retry)))
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
                # A replica that starts or stops, or the proxy in front of it.
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
            # A block without data moves the id on, no more.
            if not block.data:
                continue
            event = _event(block)
            self._ended = event.type in TERMINAL
            yield event
            if self._ended:
                return


def _event(block: ServerSentEvent) -> Event:
    try:
        payload = msgspec.json.decode(block.data)
    except msgspec.DecodeError as error:
        raise SSEError(f"an event that is not JSON: {error}") from None
    inner = payload.get("data") if isinstance(payload, dict) else None
    if isinstance(inner, dict):
        return Event(block.id, block.event, inner, payload.get("timestamp", ""))
    return Event(block.id, block.event, payload if isinstance(payload, dict) else {})
