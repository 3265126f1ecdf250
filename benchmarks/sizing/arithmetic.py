"""From the cost of one stream, event and step to pods, cores, memory, bandwidth and disk.

No I/O and no clock. Rates are per second, sizes in bytes, costs in microseconds of a core.
"""

import math
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400
_MICRO: Final = 1e-6
_GIGA: Final = 1e9
_BITS: Final = 8

POD_LIMIT: Final = 0.9
"""Share of a core that the fullest pod of the API uses at most, at the peak of a rollout."""
LEADER_LIMIT: Final = 0.7
"""Share of a core at which the leader of a log, which stores its commits in turn, is full."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one stream, event, step and commit, measured on one machine.

    Attributes:
        stream_bytes: memory of an open stream in the process of the API.
        heartbeat_us: CPU of the API for a heartbeat of an idle stream.
        opening_us: CPU of the API for a new stream.
        event_us: CPU of a pod of the API for an event that any of its clients receives.
        delivery_us: CPU of the API for the write of an event to one client.
        frame_bytes: size of an event as a client receives it.
        api_step_us: CPU of the API for a step, from the start of its run.
        worker_step_us: CPU of a worker for a step that does nothing.
        nats_step_us: CPU of NATS for a step with one copy of the data, jobs and indexes included.
        live_us: CPU of NATS for an event that it sends to one pod.
        leader_us: CPU of the server that leads the log, for a commit with three copies.
        follower_us: CPU of each other server for that commit.
        step_bytes: what a step leaves in the log, in one copy.
        step_events: events of a step.
        other_bytes: what a step leaves in other streams, in one copy.
    """

    stream_bytes: float
    heartbeat_us: float
    opening_us: float
    event_us: float
    delivery_us: float
    frame_bytes: float
    api_step_us: float
    worker_step_us: float
    nats_step_us: float
    live_us: float
    leader_us: float
    follower_us: float
    step_bytes: float
    step_events: float
    other_bytes: float


@dataclass(frozen=True, slots=True)
class Demand:
    """The load of an installation.

    Attributes:
        clients: open streams.
        events_per_s: events that all runs store, at the busiest time.
        executions_per_day: runs that end in a day; with the retention they fill the disk.
        steps: steps of a run.
        followers: clients that follow the same run.
        replicas: copies of the data, and NATS servers.
        retention_days: how long a run is kept after its end.
        heartbeat_s: ``TAILRACE_HEARTBEAT``.
        stream_age_s: ``TAILRACE_MAX_STREAM_AGE``.
        max_streams: ``TAILRACE_MAX_STREAMS``.
        peak: streams of the fullest pod during a rollout, relative to the average.
    """

    clients: int
    events_per_s: float
    executions_per_day: float
    steps: int = 10
    followers: int = 10
    replicas: int = 3
    retention_days: float = 7
    heartbeat_s: float = 15
    stream_age_s: float = 3600
    max_streams: int = 20_000
    peak: float = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """The parts of an installation and their use.

    Attributes:
        api_pods: replicas of the API; each has one process, and so one core at most.
        api_streams: streams of a pod, on average.
        api_cores: cores that all pods use.
        api_pod_memory: memory of a pod's streams, at the peak of a rollout.
        pods_reached: pods that receive one event, on average.
        deliveries_per_s: events that clients receive.
        client_gbit_per_s: bandwidth from pods to clients.
        worker_cores: cores of all workers, without what steps do themselves.
        installations: how many installations share the tenants, because one leader stores a log.
        nats_cores: cores of the busiest server of an installation.
        nats_in_gbit_per_s: what that server receives.
        nats_out_gbit_per_s: what that server sends: copies, and events to pods.
        nats_disk_bytes: store of each server of an installation.
        nats_write_bytes_per_s: what each server of an installation writes.
    """

    api_pods: int
    api_streams: int
    api_cores: float
    api_pod_memory: float
    pods_reached: float
    deliveries_per_s: float
    client_gbit_per_s: float
    worker_cores: float
    installations: int
    nats_cores: float
    nats_in_gbit_per_s: float
    nats_out_gbit_per_s: float
    nats_disk_bytes: float
    nats_write_bytes_per_s: float


def pods_reached(pods: int, followers: int) -> float:
    """Return how many pods have a client of a run, if clients spread by chance."""
    return pods * (1 - (1 - 1 / pods) ** followers)


def size(costs: Costs, demand: Demand) -> Size:
    """Return the size of an installation."""
    steps_per_s = demand.events_per_s / costs.step_events
    deliveries = demand.events_per_s * _followers(demand)
    pods = _pods(costs, demand)
    reached = _reached(demand, pods)
    stored = steps_per_s * (costs.step_bytes + costs.other_bytes)
    leader_us = costs.leader_us if demand.replicas > 1 else costs.nats_step_us
    installations = max(1, math.ceil(steps_per_s * leader_us * _MICRO / LEADER_LIMIT))
    share = 1 / installations
    kept = demand.executions_per_day * demand.steps * demand.retention_days
    return Size(
        api_pods=pods,
        api_streams=math.ceil(demand.clients / pods),
        api_cores=_api_cores(costs, demand, pods),
        api_pod_memory=demand.clients / pods * demand.peak * costs.stream_bytes,
        pods_reached=reached,
        deliveries_per_s=deliveries,
        client_gbit_per_s=deliveries * costs.frame_bytes * _BITS / _GIGA,
        worker_cores=steps_per_s * costs.worker_step_us * _MICRO,
        installations=installations,
        nats_cores=_nats_cores(costs, demand, reached) * share,
        nats_in_gbit_per_s=stored * _BITS / _GIGA * share,
        nats_out_gbit_per_s=_nats_sent(costs, demand, reached) * _BITS / _GIGA * share,
        nats_disk_bytes=kept * (costs.step_bytes + costs.other_bytes) * share,
        nats_write_bytes_per_s=stored * share,
    )


def _nats_cores(costs: Costs, demand: Demand, reached: float) -> float:
    """Return the cores of the server that leads the log.

    Jobs and indexes have leaders too, and pods are connected to all servers.
    """
    steps_per_s = demand.events_per_s / costs.step_events
    sent_us = demand.events_per_s * reached * costs.live_us / demand.replicas
    if demand.replicas == 1:
        return (steps_per_s * costs.nats_step_us + sent_us) * _MICRO
    return (steps_per_s * (costs.leader_us + costs.nats_step_us) + sent_us) * _MICRO


def _nats_sent(costs: Costs, demand: Demand, reached: float) -> float:
    """Return the bytes that the server that leads the log sends in a second.

    It sends each commit to the other servers twice: as a copy, and for their pods.
    """
    steps_per_s = demand.events_per_s / costs.step_events
    others = demand.replicas - 1
    live = costs.step_bytes * (reached / demand.replicas + (others if reached else 0))
    return steps_per_s * (live + others * (costs.step_bytes + costs.other_bytes))


def _reached(demand: Demand, pods: int) -> float:
    return pods_reached(pods, _followers(demand)) if demand.clients else 0.0


def _followers(demand: Demand) -> int:
    return min(demand.followers, demand.clients)


def _api_cores(costs: Costs, demand: Demand, pods: int) -> float:
    """Return the cores of all pods of the API, if there are so many."""
    events = demand.events_per_s
    microseconds = (
        events / costs.step_events * costs.api_step_us
        + events * _reached(demand, pods) * costs.event_us
        + events * _followers(demand) * costs.delivery_us
        + demand.clients * costs.heartbeat_us / demand.heartbeat_s
        + demand.clients * costs.opening_us / demand.stream_age_s
    )
    return microseconds * _MICRO


def _pods(costs: Costs, demand: Demand) -> int:
    """Return the fewest pods that have room for the streams and the work at the peak of a rollout.

    More pods mean more work in total, because an event reaches more of them: but less than if each
    client of a run were on a pod of its own.
    """
    use = POD_LIMIT / demand.peak
    least = max(2, math.ceil(demand.clients * demand.peak / demand.max_streams))
    apart = demand.events_per_s * _followers(demand) * costs.event_us * _MICRO
    most = max(least, math.ceil((_api_cores(costs, demand, 1) + apart) / use))
    while least < most:
        middle = (least + most) // 2
        if _api_cores(costs, demand, middle) <= middle * use:
            most = middle
        else:
            least = middle + 1
    return least
