"""The HTTP/1.1 protocol for clients that take their time: a request comes in time, or not at all.

uvicorn waits for ever for the rest of a head or a body. Whoever sends a byte a minute would hold a
connection for nothing, and with a thousand of them all that there are (the attack "Slowloris").
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from tailrace_api.http.linger import Linger
from tailrace_api.web.problems import problem

RECEIVE_TIMEOUT: Final = 30.0


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a deadline for the head of a request and one for its body.

    Args:
        receive_timeout: how long each of them may take, in seconds.
        options: uvicorn's.
    """

    def __init__(self, *, receive_timeout: float = RECEIVE_TIMEOUT, **options: Any) -> None:
        super().__init__(**options)
        self._receive_timeout = receive_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a client, whose first request is awaited."""
        super().connection_made(transport)
        self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a client."""
        self._await_nothing()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._has_begun = True
        self._await_more()

    def on_headers_complete(self) -> None:
        """Serve a request whose head has come."""
        self._await_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Learn that all of a request has come."""
        self._await_nothing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of all other refusals."""
        self._refuse(400, msg)

    def _await_more(self) -> None:
        self._await_nothing()
        self._deadline = self.loop.call_later(self._receive_timeout, self._give_up)

    def _await_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        # A stream has taken the connection over, or it is being closed.
        transport: asyncio.Transport | None = self.transport
        if transport is None or transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        is_answered = cycle is not None and (
            cycle.response_started and (cycle.more_body or not cycle.response_complete)
        )
        # Browsers open connections on suspicion: they are closed without a word. And nothing may
        # be written into an answer that is under way.
        if not self._has_begun or self.pipeline or is_answered:
            transport.close()
        else:
            self._refuse(408, f"the request did not come within {self._receive_timeout:g} s")

    def _refuse(self, status: int, detail: str) -> None:
        answer = problem(status, detail, headers={"connection": "close"})
        lines = [STATUS_LINE[status].removesuffix(b"\r\n")]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        Linger(self.transport, self.loop)
        # Nothing comes here any more. Whoever serves a request learns it as if the client had left.
        self.connection_lost(ConnectionAbortedError())
        self._unset_keepalive_if_required()
