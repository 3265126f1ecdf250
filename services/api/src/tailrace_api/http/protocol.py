"""The HTTP/1.1 protocol with an extension for streams: taking over the connection.

After a takeover uvicorn's protocol, its parser, its scope and the request's task are released. Only
the transport and a writer are left. That makes ten thousand idle streams small, and a broadcast one
system call per client.

The protocol is passed to responses in an ASGI extension. Under another server or in a test client
the extension is missing, and streams write by ASGI (see `tailrace_api.http.plain_writer`).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tailrace_api.http.accepts import Accepts
from tailrace_api.http.deadlines import RECEIVE_TIMEOUT_S
from tailrace_api.http.direct_writer import DirectWriter
from tailrace_api.http.refusals import Refusals
from tailrace_api.http.request_limits import BoundedProtocol
from tailrace_api.http.request_starts import NewConnection, RequestStarts

_EXTENSION: Final = "tailrace.transport"

Headers = Iterable[tuple[bytes, bytes]]


class StreamProtocol(BoundedProtocol):
    """The HTTP/1.1 protocol whose responses can take over their connection.

    Args:
        create: creates such protocols for the same server.
        starts: starts the requests of the server.
        options: the options of `tailrace_api.http.request_limits` and uvicorn's.
    """

    def __init__(
        self,
        *,
        refusals: Refusals,
        create: "Callable[[], StreamProtocol]",
        starts: RequestStarts,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._refusals = refusals
        self._create = create
        self._starts = starts
        self._is_started = False

    def start(self, head: bytes) -> None:
        """Parse the head of a request that has waited for its start, and start it."""
        self._is_started = True
        try:
            self.data_received(head)
        finally:
            self._is_started = False

    def on_message_begin(self) -> None:
        """Add the extension to the scope of a request."""
        super().on_message_begin()
        extensions: dict[str, Any] = {_EXTENSION: {"protocol": self, "status": 0}}
        self.scope["extensions"] = extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        start = super()._start_asgi_task
        if self._is_started:
            start(cycle, app)
        else:
            scope = cycle.scope
            self._starts.add(
                scope["method"], scope["raw_path"], scope["headers"], lambda: start(cycle, app)
            )

    def take_over(self, scope: Scope, headers: Headers) -> DirectWriter | None:
        """Begin a chunked response, and pass the connection to the caller for the rest of it.

        Returns None where that is impossible: the connection is closed, the client has sent more
        than the request, or the client does not support chunks.
        """
        cycle, transport = self.cycle, self.transport
        if (
            cycle.scope["extensions"] is not scope["extensions"]
            or cycle.more_body
            or cycle.disconnected
            or self.pipeline
            or self._is_refused
            or scope["http_version"] != "1.1"
            or transport.is_closing()
            # The client has not taken all of an earlier response. A transport reports only changes
            # of its paused state, so the writer would not know that it is paused.
            or transport.get_write_buffer_size()
        ):
            return None
        writer = DirectWriter(transport, self.connections, self._create)
        transport.set_protocol(writer)
        self.connections.discard(self)
        # The server only calls its shutdown().
        self.connections.add(writer)  # type: ignore[arg-type]
        # For uvicorn the client has disconnected, so it accepts that the task sends no response.
        cycle.disconnected = True
        scope["extensions"][_EXTENSION]["status"] = 200
        self.flow.resume_reading()
        transport.write(self._head(headers))
        self._release_references()
        return writer

    def _answer(self, refused: RequestResponseCycle | None, status: int, detail: str) -> None:
        if refused is None:
            self._refusals.note(status, detail, self.client[0] if self.client else "")
        else:
            # The access log logs and counts a request that is being served.
            refused.scope["extensions"][_EXTENSION]["status"] = status
        super()._answer(refused, status, detail)

    def _head(self, headers: Headers) -> bytes:
        fields = [
            *self.server_state.default_headers,
            *headers,
            (b"transfer-encoding", b"chunked"),
        ]
        lines = [b"%b: %b\r\n" % field for field in fields]
        return b"".join([STATUS_LINE[200], *lines, b"\r\n"])

    def _release_references(self) -> None:
        # Reference cycles would stay until the next run of the garbage collector.
        for name in ("parser", "scope", "headers", "cycle", "_served", "transport", "flow"):
            setattr(self, name, None)


class ProtocolFactory:
    """Creates the protocols of one server: for new connections, and for those of ended streams.

    Args:
        starts: starts the requests of the server.
        receive_timeout: seconds that the client of a new connection has to send something.
        options: further options of the protocol that are not uvicorn's.

    Attributes:
        accepts: accepts connections beside the event loop.
    """

    def __init__(
        self, *, starts: RequestStarts, receive_timeout: float = RECEIVE_TIMEOUT_S, **options: Any
    ) -> None:
        self.accepts = Accepts(self._create_new)
        self._starts = starts
        self._receive_timeout = receive_timeout
        self._options = {"starts": starts, "receive_timeout": receive_timeout, **options}

    def __call__(self, **options: Any) -> NewConnection:
        """Return the protocol of a new connection; called by uvicorn."""
        # The same for all connections.
        self._options |= options
        self.accepts.note()
        return self._create_new()

    def _create_new(self) -> NewConnection:
        connections = self._options["server_state"].connections
        return NewConnection(self._starts, connections, self.create, self._receive_timeout)

    def create(self) -> StreamProtocol:
        """Return a protocol for the next requests of a connection."""
        return StreamProtocol(create=self.create, **self._options)


def protocol_of(scope: Scope) -> StreamProtocol | None:
    """Return the protocol of a request, if the server provides it."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    protocol: StreamProtocol | None = extension and extension["protocol"]
    return protocol


def status_written(scope: Scope) -> int:
    """Return the status that a stream or a refusal wrote outside ASGI; 0 if there is none."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    return extension["status"] if extension else 0
