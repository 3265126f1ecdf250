"""What a worker tells those who watch over it: metrics for Prometheus, and two probes.

``/healthz`` asks whether the process is of use at all: its event loop answers. ``/readyz`` asks
whether it takes jobs now: NATS is there, and it is not stopping. A worker whose loop is blocked by
the function of a node looks alive from outside and consumes nothing; this is how that is noticed.
"""

import http.client
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from prometheus_client import REGISTRY, Gauge, make_wsgi_app

from tailrace_shared.errors import StartupError
from tailrace_worker.bootstrap import WorkerParts
from tailrace_worker.broker.middleware.metrics import BrokerCollector

_PATIENCE: Final = 2.0

Start = Callable[[str, list[tuple[str, str]]], Any]


class Monitor:
    """The HTTP server of a worker's metrics and probes; nothing where no port is set.

    What nodes register with prometheus_client's own registry is exposed, too.

    Raises:
        StartupError: the port is taken, or the address is not one of this machine.
    """

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._server: _Server | None = None
        self._metrics = make_wsgi_app(REGISTRY)
        host, port = parts.settings.metrics_host, parts.settings.metrics_port
        if not port:
            return
        try:
            self._server = _Server(host, port)
        except OSError as error:
            raise StartupError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}. Set "
                "TAILRACE_METRICS_HOST and TAILRACE_METRICS_PORT; each worker of a machine needs "
                "a port of its own"
            ) from None
        self._server.set_app(self._answer)

    def start(self) -> None:
        """Begin to answer, from a thread."""
        if self._server is None:
            return
        driving = Gauge("tailrace_worker_executions", "Executions that this worker drives.")
        driving.set_function(lambda: self._parts.engine.driving)
        REGISTRY.register(BrokerCollector(self._parts.broker))
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start)
                return answer
            case "/healthz":
                return _tell(start, "healthy", self._liveness_failures())
            case "/readyz":
                return _tell(
                    start, "ready", [*self._liveness_failures(), *self._readiness_failures()]
                )
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /metrics, /healthz and /readyz\n"]

    def _liveness_failures(self) -> list[str]:
        if self._parts.engine.is_responsive(_PATIENCE):
            return []
        return ["the event loop is blocked, perhaps by an asynchronous node that waits"]

    def _readiness_failures(self) -> list[str]:
        hindrances = []
        if not self._parts.engine.is_connected:
            hindrances.append("NATS is not connected")
        if self._parts.engine.is_draining:
            hindrances.append("this worker is stopping")
        return hindrances


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        super().__init__((str(address[0]), port), _QuietHandler)

    def server_bind(self) -> None:
        """Bind, without the base class's look-up of the host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: probes come every few seconds."""


def _tell(start: Start, well: str, wrong: list[str]) -> list[bytes]:
    status = 503 if wrong else 200
    body = {"status": f"un{well}", "reasons": wrong} if wrong else {"status": well}
    start(f"{status} {http.client.responses[status]}", [("Content-Type", "application/json")])
    return [msgspec.json.encode(body)]
