"""Prometheus metrics of a broker: counters of this process, and the backlog of the queues.

Register the collector with the registry that the program exposes::

    REGISTRY.register(BrokerCollector(broker))

Counters are those of this process. The backlog gauges are those of the installation: they are read
from JetStream at each scrape, so scrape them from one process, or take their maximum.
"""

from collections.abc import Iterator
from typing import Final

from dramatiq.errors import BrokerError
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tailrace_worker.broker.broker import NatsBroker

_COUNTERS: Final = {
    "enqueued": "Messages that JetStream confirmed, delayed ones included.",
    "delivered": "Messages delivered to this process, redeliveries included.",
    "redelivered": "Messages delivered to this process that had been delivered before.",
    "dead": "Messages that this process made dead letters.",
}


class BrokerCollector(Collector):
    """Collects the metrics of one broker."""

    def __init__(self, broker: NatsBroker) -> None:
        self._broker = broker

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not talk to NATS."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; the backlog is left out while NATS is away."""
        counts = dict(self._broker.counts)
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"tailrace_broker_{name}", text, labels=["queue"])
            for queue, values in counts.items():
                counter.add_metric([queue], getattr(values, name))
            yield counter
        in_flight = GaugeMetricFamily(
            "tailrace_broker_in_flight", "Messages that this process holds.", labels=["queue"]
        )
        for queue, values in counts.items():
            in_flight.add_metric([queue], values.in_flight)
        yield in_flight
        yield from self._backlog()

    def _backlog(self) -> Iterator[Metric]:
        try:
            backlog = self._broker.backlog()
        except BrokerError:
            return
        queued = GaugeMetricFamily(
            "tailrace_broker_queued", "Messages in the queue, running or not.", labels=["queue"]
        )
        delayed = GaugeMetricFamily(
            "tailrace_broker_delayed", "Messages whose time has not come.", labels=["queue"]
        )
        for queue, values in backlog.items():
            queued.add_metric([queue], values.queued)
            delayed.add_metric([queue], values.delayed)
        yield queued
        yield delayed
