"""Prometheus metrics of one API process. No label has a value that a client can choose."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, GCCollector, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tailrace_api.fanout.hub import Hub
from tailrace_shared.installation.probe import Gauge, InstallationProbe, build_info
from tailrace_shared.nats.health import Health
from tailrace_shared.process.distribution import Distribution

_PREFIX: Final = "tailrace_api_"


class _HubCollector(Collector):
    """Reads the hub's counts at the time of a scrape."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the hub."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._by_reason()
        yield from self._distributions()

    def _gauges(self) -> Iterator[Metric]:
        hub, counts = self._hub, self._hub.counts
        streams, topics, subscriptions = hub.sizes
        backlog = hub.runtime.slow_clients.bytes
        for name, text, value in (
            ("streams", "Open streams.", streams),
            ("topics", "Topics of open streams, shared by all streams of a topic.", topics),
            ("subscriptions", "Live NATS subscriptions.", subscriptions),
            ("topic_bytes", "Memory used by topics.", hub.topics.budget.bytes),
            ("streams_slow", "Streams with slow clients.", counts.slow),
            ("stream_backlog_bytes", "Bytes buffered for slow clients.", backlog),
            ("replay_waiting", "Pending history reads.", hub.history.replay.reads),
            ("draining", "Whether the process is stopping (1) or not (0).", hub.is_draining),
        ):
            yield GaugeMetricFamily(_PREFIX + name, text, value=value)

    def _counters(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, value in (
            ("streams_opened", "Opened streams.", counts.opened),
            ("stream_resets", "Streams that started with stream:reset.", counts.resets),
            (
                "stream_gap_events",
                "Events that did not follow the one before.",
                counts.gaps,
            ),
            ("stream_events", "Events written, counted per client.", counts.events),
            ("stream_writes", "Writes of events; one write may carry several.", counts.writes),
            ("stream_bytes", "Bytes of events written.", counts.written_bytes),
            ("stream_stalls", "Times a client fell behind.", counts.stalls),
            ("replay_reads", "Log reads for streams.", counts.reads),
            ("replay_shared_reads", "Log reads saved by sharing.", counts.shared_reads),
            ("live_repairs", "Log reads that filled gaps in live delivery.", counts.repairs),
        ):
            yield CounterMetricFamily(_PREFIX + name, text, value=value)

    def _by_reason(self) -> Iterator[Metric]:
        counts = self._hub.counts
        resumes = "Streams whose client sent an id, by where they went on."
        for name, text, label, by_reason in (
            ("streams_closed", "Closed streams.", "reason", counts.closed),
            ("streams_refused", "Refused streams.", "reason", counts.refused),
            ("stream_resumes", resumes, "source", counts.resumes),
        ):
            family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
            for reason, value in by_reason.items():
                family.add_metric([reason], value)
            yield family

    def _distributions(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, values in (
            ("hub_lag_seconds", "Time from a commit to its last write to a client.", counts.lag),
            ("loop_stall_seconds", "Delay of event loop timers.", counts.stall),
            ("replay_events", "Events replayed at the start of a stream.", counts.depth),
        ):
            yield HistogramMetricFamily(
                _PREFIX + name, text, values.cumulative(), sum_value=values.total
            )
        text = "Time from a request to the first byte of its stream."
        name = _PREFIX + "stream_first_byte_seconds"
        first = HistogramMetricFamily(name, text, labels=["resumed"])
        for is_resumed, values in counts.first_byte.items():
            label = "true" if is_resumed else "false"
            first.add_metric([label], values.cumulative(), values.total)
        yield first


class _NatsCollector(Collector):
    """Reads the health of NATS at the time of a scrape, and what is known of the installation."""

    def __init__(self, health: Health, probe: InstallationProbe) -> None:
        self._health = health
        self._probe = probe

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the connection and of the installation."""
        for name, text, value in self._health.gauges():
            yield GaugeMetricFamily(name, text, value=value)
        yield from _families([build_info("api"), *self._probe.gauges()])


class _RequestCollector(Collector):
    """The durations of requests by operation. Only operations are labels, never a path."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], Distribution] = {}

    def observe(self, operation: str, code: str, seconds: float, trace_id: str) -> None:
        """Count a request."""
        found = self._seconds.get((operation, code))
        if found is None:
            found = self._seconds[operation, code] = Distribution()
        found.observe(seconds, trace_id)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        text = "Duration of requests, streams excluded, by operation and class of the status."
        family = HistogramMetricFamily(
            _PREFIX + "request_seconds", text, labels=["operation", "code"]
        )
        for labels, values in self._seconds.items():
            family.add_metric(labels, values.cumulative(), values.total)
        yield family


class Metrics:
    """The metrics of one API process: requests by status, streams, NATS, and process metrics."""

    def __init__(self, hub: Hub, health: Health, probe: InstallationProbe) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Counter(
            "tailrace_api_requests",
            "Finished requests, streams included.",
            ["status"],
            registry=self._registry,
        )
        self._registry.register(_HubCollector(hub))
        self._registry.register(_NatsCollector(health, probe))
        self._operations = _RequestCollector()
        self._registry.register(self._operations)

    def count_request(self, status: int) -> None:
        """Count a request by status; 0 if its client disconnected before a response began."""
        self._requests.labels(str(status) if status else "none").inc()

    def observe_request(
        self, operation: str, status: int, seconds: float, trace_id: str = ""
    ) -> None:
        """Note the duration of a request.

        Args:
            operation: the method and the path as it is declared.
            status: the status; 0 if the client disconnected before a response began.
            seconds: how long it took.
            trace_id: the trace that it belongs to; empty if it is not traced.
        """
        code = f"{status // 100}xx" if status else "none"
        self._operations.observe(operation, code, seconds, trace_id)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type; only OpenMetrics has exemplars.

        Args:
            accept: the request's ``Accept``.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def _families(gauges: Iterable[Gauge]) -> Iterator[Metric]:
    for name, text, labels, values in gauges:
        family = GaugeMetricFamily(name, text, labels=labels)
        for of, value in values.items():
            family.add_metric(of, value)
        yield family
