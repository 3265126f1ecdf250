"""The HTTP/1.1 protocol, with what streams need beyond ASGI: the way to the client itself.

A stream may take its connection over. Then uvicorn's protocol, with its parser, its scope and the
task that served the request, is gone, and what is left is the transport and an outlet that writes
to it: that is what makes ten thousand idle streams small, and a broadcast one system call a client.

Both are handed on in an ASGI extension. Under another server or in a test client it is missing,
and streams do without (see `tailrace_api.http.plain_writer`).
"""

from collections.abc import Iterable
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tailrace_api.http.direct_writer import DirectOutlet
from tailrace_api.http.refusals import Refusals
from tailrace_api.http.request_limits import BoundedProtocol

_EXTENSION: Final = "tailrace.transport"

Headers = Iterable[tuple[bytes, bytes]]


class StreamProtocol(BoundedProtocol):
    """The HTTP/1.1 protocol, whose requests may take their connection over.

    Args:
        refusals: where it notes what it refuses before a request is served.
        options: those of `tailrace_api.http.request_limits`, and uvicorn's.
    """

    def __init__(self, *, refusals: Refusals, **options: Any) -> None:
        super().__init__(**options)
        self._refusals = refusals

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        extensions: dict[str, Any] = {_EXTENSION: {"protocol": self, "status": 0}}
        self.scope["extensions"] = extensions

    def take_over(self, scope: Scope, headers: Headers) -> DirectOutlet | None:
        """Begin a chunked response, and give the connection to the caller for the rest of it.

        Returns None where that cannot be, because the connection is gone, or more has come over it
        than the request, or the client knows no chunks.
        """
        cycle, transport = self.cycle, self.transport
        if (
            cycle.scope["extensions"] is not scope["extensions"]
            or cycle.more_body
            or cycle.disconnected
            or self.pipeline
            or scope["http_version"] != "1.1"
            or transport.is_closing()
            # Of an answer before this one the client has not taken all. Whether a transport is
            # paused is told when that changes, and the outlet would not have been told.
            or transport.get_write_buffer_size()
        ):
            return None
        outlet = DirectOutlet(transport, self.connections)
        transport.set_protocol(outlet)
        self.connections.discard(self)
        # All that the server wants of it is to be told to shut down.
        self.connections.add(outlet)  # type: ignore[arg-type]
        # For uvicorn the client has left, so it minds neither the silence nor the end of the task.
        cycle.disconnected = True
        scope["extensions"][_EXTENSION]["status"] = 200
        self.flow.resume_reading()
        transport.write(self._head(headers))
        self._let_go()
        return outlet

    def _refuse(self, status: int, detail: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._refusals.note(status, detail, self.client[0] if self.client else "")
        else:
            # A request that is being served is logged and counted by whoever serves it.
            cycle.scope["extensions"][_EXTENSION]["status"] = status
        super()._refuse(status, detail)

    def _head(self, headers: Headers) -> bytes:
        fields = [
            *self.server_state.default_headers,
            *headers,
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % field for field in fields]
        return b"".join([STATUS_LINE[200], *lines, b"\r\n"])

    def _let_go(self) -> None:
        # What refers to each other would stay until the next run of the garbage collector.
        for name in ("parser", "scope", "headers", "cycle", "transport", "flow"):
            setattr(self, name, None)


def protocol_of(scope: Scope) -> StreamProtocol | None:
    """Return the protocol of a request, if the server tells it."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    protocol: StreamProtocol | None = extension and extension["protocol"]
    return protocol


def status_written(scope: Scope) -> int:
    """Return the status that was written past ASGI, by a stream or a refusal; 0 if none was."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    return extension["status"] if extension else 0
