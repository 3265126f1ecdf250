"""Reads the state of an installation's streams and queues regularly, for metrics."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.installation.demand import DemandReader, QueueDemand
from tailrace_shared.nats import topology
from tailrace_shared.nats.components import running_version
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import version_of
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.subjects import Subjects

T = TypeVar("T")

_INTERVAL_S: Final = 10.0
_EVENTS: Final = topology.EVENTS
# The streams that grow with what tenants do.
_WATCHED: Final = (
    *(_EVENTS, topology.JOBS, topology.OUTPUTS, topology.DEAD, topology.STARTS),
    *(f"KV_{name}" for name in (topology.RUNS, topology.WAITING, topology.WORKFLOWS)),
)

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

    def __init__(self, jetstream: JetStream, subjects: Subjects, demand: DemandReader) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
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
        """Read once. Of streams or queues that cannot be read nothing is known."""
        self._streams = await self._try(self._read_streams()) or {}
        self._queues = await self._try(self._demand.queues()) or {}

    async def _try(self, reading: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await reading
        except (UnavailableError, JetStreamError) as error:
            if self._outage_log.is_due():
                _log.warning("metrics of NATS: read failed", error=str(error))
            return None

    async def _read_streams(self) -> dict[str, dict[str, Any]]:
        return {name: await self._info(name) for name in _WATCHED}

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
        text = "Jobs that failed permanently."
        dead = streams[topology.DEAD]["state"]["messages"]
        yield Gauge("tailrace_dead_letters", text, (), {(): dead})
        text = "Version of the topology that was applied last."
        version = version_of(streams[_EVENTS]["config"])
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

    async def _info(self, name: str) -> dict[str, Any]:
        root = name.removeprefix("KV_")
        prefix = "KV_" if name != root else ""
        stream = f"{prefix}{self._subjects.stream(root)}"
        return await self._jetstream.api(f"STREAM.INFO.{stream}")


def build_info(service: str) -> Gauge:
    """Return the metric of the version that a service runs."""
    text = "1, with the service and version of the process."
    return Gauge(
        "tailrace_build_info", text, ("service", "version"), {(service, running_version()): 1.0}
    )


def _labelled(name: str, text: str, label: str, by_label: Mapping[str, float]) -> Gauge:
    return Gauge(name, text, (label,), {(of,): value for of, value in by_label.items()})


def _current(info: Mapping[str, Any]) -> int:
    cluster = info.get("cluster") or {}
    replicas = cluster.get("replicas") or []
    has_leader = not cluster or bool(cluster.get("leader"))
    return has_leader + sum(
        bool(replica.get("current")) and not replica.get("offline") for replica in replicas
    )
