"""The HTTP server: binding, signals, and a shutdown that ends streams first.

uvicorn closes its listeners, then waits for open responses, for ever or until it cancels them. A
stream has no end of its own, so ours are ended before: every client gets a `retry` and a complete
response, and uvicorn finds nothing to wait for.
"""

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from functools import partial

import structlog
import uvicorn

from tailrace_api.app import Api
from tailrace_api.http.head_limits import HeadLimits
from tailrace_api.http.protocol import StreamProtocol
from tailrace_api.http.refusals import Refusals
from tailrace_shared.errors import StartupError
from tailrace_shared.process.readiness import notify
from tailrace_shared.settings import ApiSettings

# Longer than the idle connections that a proxy keeps: the server must not close one just used.
_KEEP_ALIVE = 75
_BACKLOG = 4096
# How much of the drain timeout streams may take; what is left is for other requests.
_STREAMS_SHARE = 0.75

_log = structlog.get_logger("tailrace.api")


def bind(settings: ApiSettings, *, listens: bool = True) -> socket.socket:
    """Return a listening socket, or one that only keeps the address for others of ours.

    Raises:
        StartupError: the address is taken, not ours, or open to others without authentication.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}: {error.strerror}. Set TAILRACE_HOST to an address of "
            "this machine"
        ) from None
    is_loopback = ipaddress.ip_address(address[0]).is_loopback
    if settings.auth == "none" and not is_loopback and not settings.allow_open_bind:
        raise StartupError(
            f"TAILRACE_AUTH=none would let everybody who reaches {host} in. Set TAILRACE_AUTH=jwt, "
            "TAILRACE_HOST to a loopback address, or TAILRACE_ALLOW_OPEN_BIND=true if something "
            "in front of it authenticates"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.processes > 1:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if listens:
            listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or set "
            "TAILRACE_HOST and TAILRACE_PORT"
        ) from None
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn with our signals, readiness and shutdown."""

    def __init__(self, api: Api, settings: ApiSettings) -> None:
        super().__init__(
            uvicorn.Config(
                api.app,
                # A class, for uvicorn; it only calls it.
                http=partial(  # type: ignore[arg-type]
                    StreamProtocol,
                    refusals=Refusals(api.metrics.count_request),
                    receive_timeout=settings.receive_timeout,
                    head_limits=HeadLimits(settings.max_url_bytes, settings.max_header_bytes),
                ),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                backlog=_BACKLOG,
            )
        )
        self._hub = api.hub
        self._drain_delay = float(settings.drain_delay)
        self._drain_timeout = float(settings.drain_timeout)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        _log.info("listening", host=host, port=port)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all streams, then let uvicorn finish what else is open."""
        notify("STOPPING=1")
        loop = asyncio.get_running_loop()
        # Not ready any more, but there for whoever has not noticed yet.
        self._hub.is_draining = True
        await asyncio.sleep(self._drain_delay)
        deadline = loop.time() + self._drain_timeout
        # Listeners stay open: whoever comes meanwhile is told to try again, not refused.
        await self._hub.drain(self._drain_timeout * _STREAMS_SHARE)
        # uvicorn declares an int, and hands it to asyncio.wait_for, which takes fractions.
        self.config.timeout_graceful_shutdown = deadline - loop.time()  # type: ignore[assignment]
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT.

        uvicorn raises them again when it has ended, which would kill the process before it has
        closed NATS, with a status that looks like a crash.
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
