"""The HTTP server: binding, signals, and a shutdown that drains streams first.

At shutdown uvicorn closes its listeners and waits for open responses. A stream never ends by
itself, so the hub drains all streams first: every client gets a ``retry`` and a complete response,
and uvicorn has nothing left to wait for.
"""

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from tailrace_api.app import Api
from tailrace_api.http.head_limits import HeadLimits
from tailrace_api.http.protocol import ProtocolFactory
from tailrace_api.http.refusals import Refusals
from tailrace_api.http.request_starts import RequestStarts
from tailrace_api.web.operation import stream_requests
from tailrace_shared.errors import StartupError
from tailrace_shared.process.readiness import notify
from tailrace_shared.settings import ApiSettings

# Longer than a proxy keeps idle connections: the server must not close one that is just reused.
_KEEP_ALIVE_S = 75
_BACKLOG = 4096
# The part of the drain timeout for streams; the rest is for other requests.
_STREAMS_SHARE = 0.75

_log = structlog.get_logger("tailrace.api")


def bind(settings: ApiSettings, *, listens: bool = True) -> socket.socket:
    """Return a socket that is bound to the public address.

    Args:
        settings: The API's settings.
        listens: Whether the socket listens, or only reserves the address for child processes.

    Raises:
        StartupError: The address is in use, does not belong to this machine, or would expose an
            API without authentication.
    """
    family, address = _resolve("TAILRACE_HOST", settings.host, settings.port)
    is_loopback = ipaddress.ip_address(address[0]).is_loopback
    if settings.auth == "none" and not is_loopback and not settings.allow_open_bind:
        raise StartupError(
            f"TAILRACE_AUTH=none would expose the API to every client of {settings.host}. Set "
            "TAILRACE_AUTH=jwt, TAILRACE_HOST to a loopback address, or "
            "TAILRACE_ALLOW_OPEN_BIND=true if a proxy in front authenticates"
        )
    names = "TAILRACE_HOST and TAILRACE_PORT"
    return _bind(family, address, names, shares=settings.processes > 1, listens=listens)


def bind_internal(settings: ApiSettings) -> socket.socket | None:
    """Return a listening socket for probes and metrics, or None if the public port serves them.

    Raises:
        StartupError: The address is in use or does not belong to this machine, or several
            processes would share the port.
    """
    if not settings.internal_port:
        return None
    if settings.processes > 1:
        raise StartupError(
            "TAILRACE_INTERNAL_PORT requires TAILRACE_PROCESSES=1: a scrape would reach any one of "
            "the processes"
        )
    host, port = settings.internal_host, settings.internal_port
    family, address = _resolve("TAILRACE_INTERNAL_HOST", host, port)
    names = "TAILRACE_INTERNAL_HOST and TAILRACE_INTERNAL_PORT"
    return _bind(family, address, names, shares=False, listens=True)


def _resolve(name: str, host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}: {error.strerror}. Set {name} to an address of this machine"
        ) from None
    return family, address


def _bind(
    family: socket.AddressFamily,
    address: tuple[Any, ...],
    names: str,
    *,
    shares: bool,
    listens: bool,
) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if listens:
            listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {address[0]}:{address[1]}: {error.strerror}. Stop the process that "
            f"uses it, or set {names}"
        ) from None
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn with drained streams, systemd readiness and its own signal handling."""

    def __init__(self, api: Api, settings: ApiSettings) -> None:
        protocols = ProtocolFactory(
            refusals=Refusals(api.metrics.count_request),
            starts=RequestStarts(stream_requests(api.app.routes)),
            receive_timeout=settings.receive_timeout,
            head_limits=HeadLimits(settings.max_url_bytes, settings.max_header_bytes),
        )
        self._accepts = protocols.accepts
        super().__init__(
            uvicorn.Config(
                api.app,
                # uvicorn declares a class here, but only calls it.
                http=protocols,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # No response is to be read as another type, or to tell its URL to other sites.
                headers=[("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")],
                timeout_keep_alive=_KEEP_ALIVE_S,
                backlog=_BACKLOG,
            )
        )
        self._hub = api.hub
        self._drain_delay = float(settings.drain_delay)
        self._drain_timeout = float(settings.drain_timeout)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening and notify systemd."""
        await super().startup(sockets)
        self._accepts.listener = listener = (sockets or [])[0]
        host, port = listener.getsockname()[:2]
        _log.info("listening", host=host, port=port)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain all streams, then let uvicorn finish other requests."""
        notify("STOPPING=1")
        loop = asyncio.get_running_loop()
        # Not ready any more, but still serving until load balancers have noticed.
        self._hub.is_draining = True
        await asyncio.sleep(self._drain_delay)
        deadline = loop.time() + self._drain_timeout
        # Listeners stay open: a new client gets a `retry` instead of a refused connection.
        await self._hub.drain(self._drain_timeout * _STREAMS_SHARE)
        self._accepts.listener = None
        # uvicorn declares an int, but passes it to asyncio.wait_for, which accepts fractions.
        self.config.timeout_graceful_shutdown = deadline - loop.time()  # type: ignore[assignment]
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT.

        uvicorn raises them again after shutdown, which would kill the process before it closes
        the NATS connection, with an exit status that looks like a crash.
        """
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


class _InternalServer(uvicorn.Server):
    """uvicorn without signal handling: it ends when the public server has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the public server."""
        yield


@contextlib.asynccontextmanager
async def internal_server(app: Starlette, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve probes and metrics on the internal port, during a shutdown too."""
    if listener is None:
        yield
        return
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _InternalServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
