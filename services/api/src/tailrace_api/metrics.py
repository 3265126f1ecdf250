"""Prometheus metrics of one API process. Labels are few: none has a value of a client's choice."""

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
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from tailrace_api.fanout.hub import Hub

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_PREFIX: Final = "tailrace_api_"


class _HubCollector(Collector):
    """Tells what the hub counts, at the time when Prometheus asks."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """Yield everything."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._by_reason()
        yield from self._distributions()

    def _gauges(self) -> Iterator[Metric]:
        hub, counts = self._hub, self._hub.counts
        streams, topics, subscriptions = hub.sizes
        for name, text, value in (
            ("streams", "Streams that are open.", streams),
            ("topics", "What open streams follow, each once for all of them.", topics),
            ("subscriptions", "Live subscriptions at NATS.", subscriptions),
            ("topic_bytes", "What topics keep in memory.", hub.budget.bytes),
            ("streams_slow", "Streams whose clients do not keep up.", counts.slow),
            ("stream_backlog_bytes", "What slow clients have yet to take.", hub.backlog.bytes),
            ("replay_waiting", "Reads of history that streams wait for.", hub.replay.reads),
        ):
            yield GaugeMetricFamily(_PREFIX + name, text, value=value)

    def _counters(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, value in (
            ("streams_opened", "Streams that were opened.", counts.opened),
            ("stream_resets", "Streams that began with stream:reset.", counts.resets),
            ("stream_events", "Events that were written, for each client.", counts.events),
            ("stream_writes", "Writes that carried them; one may carry several.", counts.writes),
            ("stream_bytes", "Bytes of events that were written.", counts.written_bytes),
            ("stream_stalls", "How often a client did not keep up.", counts.stalls),
            ("replay_reads", "Reads of the log for streams.", counts.reads),
            ("replay_shared_reads", "Reads spared by sharing another's.", counts.shared_reads),
            ("live_repairs", "Reads of what was missing live.", counts.repairs),
        ):
            yield CounterMetricFamily(_PREFIX + name, text, value=value)

    def _by_reason(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, by_reason in (
            ("streams_closed", "Streams that were closed.", counts.closed),
            ("streams_refused", "Streams that were told to come back later.", counts.refused),
        ):
            family = CounterMetricFamily(_PREFIX + name, text, labels=["reason"])
            for reason, value in by_reason.items():
                family.add_metric([reason], value)
            yield family

    def _distributions(self) -> Iterator[Metric]:
        counts = self._hub.counts
        for name, text, values in (
            ("hub_lag_seconds", "From a commit to its last write.", counts.lag),
            ("loop_stall_seconds", "How late the event loop comes to its timers.", counts.stall),
            ("replay_events", "History that streams began with.", counts.depth),
        ):
            bounds = [*map(str, values.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(values.buckets), strict=True))
            yield HistogramMetricFamily(_PREFIX + name, text, buckets, sum_value=values.total)


class Metrics:
    """What one API process counts: requests by status, its streams, and the process itself."""

    def __init__(self, hub: Hub) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Counter(
            "tailrace_api_requests",
            "Requests that have ended, streams among them.",
            ["status"],
            registry=self._registry,
        )
        self._registry.register(_HubCollector(hub))

    def count_request(self, status: int) -> None:
        """Count a request; one whose client left before an answer began has no status."""
        self._requests.labels(str(status) if status else "none").inc()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
