"""Prometheus metrics of one API process. No label has a value that a client can choose."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from tailrace_api.fanout.hub import Hub
from tailrace_shared.nats.health import Health

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
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
        ):
            yield GaugeMetricFamily(_PREFIX + name, text, value=value)

    def _counters(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, value in (
            ("streams_opened", "Opened streams.", counts.opened),
            ("stream_resets", "Streams that started with stream:reset.", counts.resets),
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
        for name, text, by_reason in (
            ("streams_closed", "Closed streams.", counts.closed),
            ("streams_refused", "Refused streams, whose clients retry later.", counts.refused),
        ):
            family = CounterMetricFamily(_PREFIX + name, text, labels=["reason"])
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
            bounds = [*map(str, values.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(values.buckets), strict=True))
            yield HistogramMetricFamily(_PREFIX + name, text, buckets, sum_value=values.total)


class _NatsCollector(Collector):
    """Reads the health of NATS at the time of a scrape."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the connection."""
        for name, text, value in self._health.gauges():
            yield GaugeMetricFamily(name, text, value=value)


class Metrics:
    """The metrics of one API process: requests by status, streams, NATS, and process metrics."""

    def __init__(self, hub: Hub, health: Health) -> None:
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
        self._registry.register(_NatsCollector(health))

    def count_request(self, status: int) -> None:
        """Count a request by status; 0 if its client disconnected before a response began."""
        self._requests.labels(str(status) if status else "none").inc()

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
