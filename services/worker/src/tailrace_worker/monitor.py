"""Metrics for Prometheus, and the liveness and readiness probes of a worker.

``/healthz`` succeeds while the event loop answers. A worker whose loop is blocked by a node
has a live process but consumes nothing, and only this probe shows it. ``/readyz`` succeeds while
the worker takes jobs: NATS answers and stores, and the worker is not stopping.
"""

import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from prometheus_client import REGISTRY, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tailrace_shared.errors import StartupError
from tailrace_shared.installation.probe import build_info
from tailrace_worker.bootstrap import WorkerParts
from tailrace_worker.broker.middleware.metrics import BrokerCollector
from tailrace_worker.engine.counts import EngineCounts
from tailrace_worker.engine.engine import Engine

_LOOP_TIMEOUT_S: Final = 2.0
_PREFIX: Final = "tailrace_worker_"

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Monitor:
    """The HTTP server of a worker's metrics and probes; without a port it does nothing.

    It exposes prometheus_client's global registry, and so the metrics of user nodes, too.

    Raises:
        StartupError: the port is taken, or the address does not belong to this machine.
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
        self._server.set_app(self._respond)

    def start(self) -> None:
        """Serve requests from a thread of its own. Metrics of the engine begin when it runs."""
        if self._server is None:
            return
        REGISTRY.register(_EngineCollector(self._parts.engine))
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()

    def add_broker(self) -> None:
        """Expose the broker's metrics, too. They are read from NATS at each scrape."""
        if self._server is not None:
            REGISTRY.register(BrokerCollector(self._parts.broker))

    def _respond(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                body: Iterable[bytes] = self._metrics(environ, start)
                return body
            case "/healthz":
                return _report(start, "healthy", self._liveness_failures())
            case "/readyz":
                return _report(
                    start, "ready", [*self._liveness_failures(), *self._readiness_failures()]
                )
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not found: use /metrics, /healthz or /readyz\n"]

    def _liveness_failures(self) -> list[str]:
        if self._parts.engine.is_responsive(_LOOP_TIMEOUT_S):
            return []
        return ["the event loop is blocked, perhaps by an asynchronous node that does not await"]

    def _readiness_failures(self) -> list[str]:
        engine = self._parts.engine
        if engine.health is None:
            return ["this worker waits for NATS"]
        failures = [*engine.health.failures()]
        # The broker has a connection of its own.
        if not failures and (failure := self._parts.broker.connection_failure):
            failures.append(failure)
        if engine.is_draining:
            failures.append("this worker is stopping")
        return failures


class _EngineCollector(Collector):
    """Reads the metrics of the engine at the time of a scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering needs no running engine."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; none before the engine runs."""
        if (health := self._engine.health) is None:
            return
        text = "Executions that this worker drives."
        yield GaugeMetricFamily(_PREFIX + "executions", text, value=self._engine.driving)
        text = "Whether the process is stopping (1) or not (0)."
        yield GaugeMetricFamily(_PREFIX + "draining", text, value=self._engine.is_draining)
        for name, text, value in health.gauges():
            yield GaugeMetricFamily(name, text, value=value)
        build = build_info("worker")
        family = GaugeMetricFamily(build.name, build.text, labels=build.labels)
        for labels, value in build.values.items():
            family.add_metric(labels, value)
        yield family
        yield from _of_counts(self._engine.counts, self._engine.slots)


def _of_counts(counts: EngineCounts, slots: Mapping[str, int]) -> Iterator[Metric]:
    text = "Executions that the last sweep found overdue; 0 at workers that do not sweep."
    yield GaugeMetricFamily(_PREFIX + "overdue_executions", text, value=counts.overdue)
    text = "Executions that had lost their job and were given another."
    yield CounterMetricFamily(_PREFIX + "rescued_executions", text, value=counts.rescued)
    state = GaugeMetricFamily(_PREFIX + "slots", "Slots for executions by state.", labels=["state"])
    for name, value in slots.items():
        state.add_metric([name], value)
    yield state
    for name, text, label, by_label in (
        ("drives", "Ended drives by why they ended.", "outcome", counts.drives),
        ("executions_ended", "Executions that this worker ended.", "status", counts.ended),
        ("retries", "Retries of steps by cause.", "cause", counts.retries),
    ):
        family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
        for of, total in by_label.copy().items():
            family.add_metric([of], total)
        yield family
    text = "Ended attempts of steps."
    attempts = CounterMetricFamily(_PREFIX + "attempts", text, labels=["node_type", "outcome"])
    for of_attempt, total in counts.attempts.copy().items():
        attempts.add_metric(of_attempt, total)
    yield attempts
    for name, text, values in (
        ("queue_wait_seconds", "Time from the storing of a job to its drive.", counts.queue_wait),
        ("timer_lag_seconds", "Time from when a timer was due to its drive.", counts.timer_lag),
    ):
        yield HistogramMetricFamily(
            _PREFIX + name, text, values.cumulative(), sum_value=values.total
        )
    for name, text, label, distributions in (
        ("attempt_seconds", "Duration of attempts.", "node_type", counts.attempt_seconds),
        ("commit_seconds", "Duration of appends to logs.", "result", counts.commit_seconds),
    ):
        histogram = HistogramMetricFamily(_PREFIX + name, text, labels=[label])
        for of, values in distributions.copy().items():
            histogram.add_metric([of], values.cumulative(), values.total)
        yield histogram


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        super().__init__((str(address[0]), port), _QuietHandler)

    def server_bind(self) -> None:
        """Bind without the base class's reverse DNS lookup, which may be slow."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Do not log requests: probes arrive every few seconds."""


def _report(start: StartResponse, status_text: str, failures: list[str]) -> list[bytes]:
    status = 503 if failures else 200
    body = (
        {"status": f"un{status_text}", "reasons": failures} if failures else {"status": status_text}
    )
    start(f"{status} {http.client.responses[status]}", [("Content-Type", "application/json")])
    return [msgspec.json.encode(body)]
