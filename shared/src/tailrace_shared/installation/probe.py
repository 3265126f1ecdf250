"""Reads the state of an installation's streams and queues regularly, for metrics."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.installation.demand import DemandReader, QueueDemand
from tailrace_shared.nats.components import running_version
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream
from tailrace_shared.nats.provision import version_of
from tailrace_shared.nats.topology import DEAD, EVENTS, topology
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

T = TypeVar("T")

_INTERVAL_S: Final = 10.0

_log = structlog.get_logger(__name__)


class Gauge(NamedTuple):
    """A metric.

    Attributes:
        labels: the names of its labels.
        values: the values by the values of the labels.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


class InstallationProbe:
    """Reads the state of the streams and queues every ten seconds.

    Its gauges are those of the newest reading; there are none before the first one, and after
    NATS has stopped answering.
    """

    def __init__(
        self, jetstream: JetStream, settings: CommonSettings, demand: DemandReader
    ) -> None:
        self._jetstream = jetstream
        # Any of them that is full refuses something: a start, a wait, a trigger.
        self._names = {_label(spec.name, settings): spec.name for spec in topology(settings)}
        self._demand = demand
        self._outage_log = LogThrottle()
        self._streams: dict[str, dict[str, Any]] = {}
        self._queues: dict[str, QueueDemand] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(_INTERVAL_S)

    async def read(self) -> None:
        """Read once. There are no gauges of streams or queues that cannot be read."""
        self._streams = await self._read_streams()
        self._queues = await self._try(self._demand.queues()) or {}

    async def _try(self, reading: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await reading
        except (UnavailableError, JetStreamError) as error:
            if self._outage_log.is_due():
                _log.warning("metrics of NATS: read failed", error=str(error))
            return None

    async def _read_streams(self) -> dict[str, dict[str, Any]]:
        """Read each stream by its own request; return those that exist, which may be fewer.

        One ``STREAM.LIST`` would be cheaper, but also returns the streams of other installations,
        and a cluster omits those whose leaders answer late. These take a server 0.3 ms each.
        """
        # At once: one without a leader delays the reading by seconds.
        readings = (self._try(self._read_stream(name)) for name in self._names.values())
        found = zip(self._names, await asyncio.gather(*readings), strict=True)
        return {label: info for label, info in found if info is not None}

    async def _read_stream(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._jetstream.api(f"STREAM.INFO.{name}")
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            return None

    def gauges(self) -> Iterator[Gauge]:
        """Yield the metrics of the newest reading."""
        if self._streams:
            yield from self._of_streams()
        if self._queues:
            yield from self._of_queues()

    def _of_streams(self) -> Iterator[Gauge]:
        streams = self._streams
        text = "Replicas of a stream that have all of its messages."
        current = {name: float(_current(info)) for name, info in streams.items()}
        yield _labelled("tailrace_nats_replicas_current", text, "stream", current)
        text = "Replicas that a stream is configured with."
        wanted = {name: float(info["config"]["num_replicas"]) for name, info in streams.items()}
        yield _labelled("tailrace_nats_replicas_wanted", text, "stream", wanted)
        text = "Used share of the size limit of a stream."
        limited = {
            name: info["state"]["bytes"] / info["config"]["max_bytes"]
            for name, info in streams.items()
            if info["config"].get("max_bytes", -1) > 0
        }
        yield _labelled("tailrace_nats_store_ratio", text, "stream", limited)
        text = "Bytes that a stream holds."
        size = {name: float(info["state"]["bytes"]) for name, info in streams.items()}
        yield _labelled("tailrace_nats_stream_bytes", text, "stream", size)
        if DEAD in streams:
            text = "Jobs that failed permanently."
            dead = streams[DEAD]["state"]["messages"]
            yield Gauge("tailrace_dead_letters", text, (), {(): dead})
        if EVENTS in streams:
            text = "Version of the topology that was applied last."
            version = version_of(streams[EVENTS]["config"])
            yield Gauge("tailrace_topology_version", text, (), {(): version})

    def _of_queues(self) -> Iterator[Gauge]:
        queues = self._queues
        text = "Jobs of a queue that no worker has."
        queued = {name: float(each.queued) for name, each in queues.items()}
        yield _labelled("tailrace_jobs_queued", text, "queue", queued)
        text = "Jobs of a queue that a worker has."
        in_flight = {name: float(each.in_flight) for name, each in queues.items()}
        yield _labelled("tailrace_jobs_in_flight", text, "queue", in_flight)
        text = "How long the oldest job of a queue that no worker has waits."
        oldest = {name: each.oldest_seconds for name, each in queues.items()}
        yield _labelled("tailrace_jobs_oldest_seconds", text, "queue", oldest)


def build_info(service: str) -> Gauge:
    """Return the metric of the version that a service runs."""
    text = "1, with the service and version of the process."
    return Gauge(
        "tailrace_build_info", text, ("service", "version"), {(service, running_version()): 1.0}
    )


def _label(stream: str, settings: CommonSettings) -> str:
    """Return the name of a stream without the prefix of the installation."""
    root = stream.removeprefix("KV_")
    kind = stream.removesuffix(root)
    return kind + root.removeprefix(Subjects(settings.prefix).stream(""))


def _labelled(name: str, text: str, label: str, by_label: Mapping[str, float]) -> Gauge:
    return Gauge(name, text, (label,), {(of,): value for of, value in by_label.items()})


def _current(info: Mapping[str, Any]) -> int:
    cluster = info.get("cluster") or {}
    replicas = cluster.get("replicas") or []
    has_leader = not cluster or bool(cluster.get("leader"))
    return has_leader + sum(
        bool(replica.get("current")) and not replica.get("offline") for replica in replicas
    )
