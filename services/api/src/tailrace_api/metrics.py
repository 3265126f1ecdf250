"""Prometheus metrics of one API process. Labels are few: none has a value of a client's choice."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tailrace_api.fanout.hub import Hub

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """What one API process counts: requests by status, open streams, and the process itself."""

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
        streams = Gauge("tailrace_api_streams", "Streams that are open.", registry=self._registry)
        streams.set_function(lambda: hub.sizes[0])
        topics = Gauge(
            "tailrace_api_topics",
            "What open streams follow, each once for all of them.",
            registry=self._registry,
        )
        topics.set_function(lambda: hub.sizes[1])

    def count_request(self, status: int) -> None:
        """Count a request; one whose client left before an answer began has no status."""
        self._requests.labels(str(status) if status else "none").inc()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
