"""The HTTP/1.1 protocol with deadlines for the head and the body of a request.

uvicorn waits forever for the rest of a head or a body. An attacker that sends one byte a minute
could hold a connection for free, and with a thousand of them exhaust the server ("Slowloris").
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from tailrace_api.http.linger import Linger, LingeringTransport
from tailrace_api.web.problems import problem

RECEIVE_TIMEOUT_S: Final = 30.0


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a deadline for the head of a request and one for its body.

    Args:
        receive_timeout: the time for each of them, in seconds.
    """

    def __init__(
        self,
        *,
        receive_timeout: float = RECEIVE_TIMEOUT_S,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._receive_timeout = receive_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._has_request = False
        # uvicorn keeps only the newest of several requests that a client sends at once.
        self._served: RequestResponseCycle | None = None
        self._is_receiving_body = False
        self._is_refused = False
        self._deferred: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        if self._served is not None:
            self._served.disconnected = True
            self._served.message_event.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_request = True
        self._start_deadline()

    def on_headers_complete(self) -> None:
        """Start the deadline of the body, and serve the request."""
        self._start_deadline()
        super().on_headers_complete()
        self._is_receiving_body = True

    def on_message_complete(self) -> None:
        self._cancel_deadline()
        self._is_receiving_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request, or refuse what followed the last one."""
        self._served = None
        super().on_response_complete()
        if self._deferred and not self._is_serving() and not self.transport.is_closing():
            self._answer(None, *self._deferred)

    def send_400_response(self, msg: str) -> None:
        """Answer input that is not HTTP with a problem, like all other refusals."""
        self._refuse(400, msg)

    def linger_on_close(self) -> None:
        """Let the client read the response to a request whose body it is still sending."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None:
            cycle.transport = cast(
                "asyncio.Transport", LingeringTransport(self.transport, self._linger)
            )

    def _is_serving(self) -> bool:
        return self._served is not None

    def _linger(self) -> None:
        Linger(self.transport, self.loop)
        # The protocol receives nothing any more. A request that is being served sees a disconnect.
        self.connection_lost(ConnectionAbortedError())

    def _start_deadline(self) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(self._receive_timeout, self._on_timeout)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_timeout(self) -> None:
        # A stream has taken the connection over, or it is being closed.
        transport: asyncio.Transport | None = self.transport
        if transport is None or transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        has_response = cycle is not None and (
            cycle.response_started and (cycle.more_body or not cycle.response_complete)
        )
        # Browsers open speculative connections; those are closed without an answer. And nothing may
        # be written into a response that is in progress.
        if not self._has_request or self.pipeline or has_response:
            transport.close()
        else:
            self._refuse(
                408,
                f"the request was not received within {self._receive_timeout:g} s "
                "(TAILRACE_RECEIVE_TIMEOUT)",
            )

    def _refuse(self, status: int, detail: str) -> None:
        """Refuse the request that is being received, and receive no more.

        The answer follows those to the requests before it: a client takes answers in their order.
        """
        self._is_refused = True
        self._cancel_deadline()
        refused: RequestResponseCycle | None = self.cycle if self._is_receiving_body else None
        if refused is not None and self.pipeline:
            self.pipeline.popleft()  # the newest; it was not started
            refused = None
        if self._served not in (None, refused):
            self._deferred = status, detail
        elif refused is not None and refused.response_started:
            self._linger()  # nothing may be written into a response, or after it
        else:
            self._answer(refused, status, detail)

    def _answer(self, refused: RequestResponseCycle | None, status: int, detail: str) -> None:
        """Write a refusal.

        Args:
            refused: the refused request; None if it was not started.
            status: the status of the answer.
            detail: why the request is refused.
        """
        if refused is not None:
            refused.waiting_for_100_continue = False
        answer = problem(status, detail, headers={"connection": "close"})
        lines = [STATUS_LINE[status].removesuffix(b"\r\n")]
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self._linger()
        self._unset_keepalive_if_required()
