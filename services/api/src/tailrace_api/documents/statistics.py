"""Statistics as the API tells them: what is remembered of runs, as numbers to be drawn. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.estimation import (
    MINUTES,
    FailureCounts,
    NodeHistory,
    RunHistory,
    Sketch,
    items_key,
)
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition

_SHARES: Final = (0.5, 0.9, 0.95, 0.99)
_MOST_WORKFLOWS: Final = 1000


class Latency(msgspec.Struct):
    """How long something took, each number within a few percent.

    Attributes:
        count: of how many; old ones fade.
    """

    count: int
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Ended(msgspec.Struct):
    """How many runs ended how."""

    completed: int
    failed: int
    cancelled: int


class Minute(msgspec.Struct):
    """The runs that ended within a minute.

    Attributes:
        at: when it began.
    """

    at: str
    completed: int
    failed: int
    cancelled: int


class WorkflowStatistics(msgspec.Struct, kw_only=True):
    """A workflow's numbers.

    Attributes:
        active_runs: runs that have not ended, those that wait among them.
        ended: runs that have ended, ever.
        last_hour: runs that have ended in the last sixty minutes.
        success_rate: of those that completed or failed in the last hour, the share that completed.
        run_latency: how long completed runs took, waits for people included.
        step_latency: how long steps took that succeeded, those that await somebody left out.
    """

    workflow_id: str
    active_runs: int
    ended: Ended
    last_hour: Ended
    success_rate: float | None
    run_latency: Latency
    step_latency: Latency


class NodeStatistics(msgspec.Struct):
    """A node's numbers, from its latest few hundred runs.

    Attributes:
        succeeded: how often it succeeded.
        failed: how often it failed for good.
        retries: attempts that another one followed.
        skipped: how often it was skipped.
        latency: how long successful attempts took.
        items: of a map, how long what it does for an item took.
    """

    node_id: str
    node_type: str
    succeeded: int
    failed: int
    retries: int
    skipped: int
    latency: Latency
    items: Latency | msgspec.UnsetType = msgspec.UNSET


class WorkflowDetails(WorkflowStatistics, kw_only=True):
    """A workflow's numbers, by the minute and by the node.

    Attributes:
        throughput: the last sixty minutes, the current one last.
        nodes: in the order of the definition.
    """

    throughput: list[Minute]
    nodes: list[NodeStatistics]


class TenantStatistics(msgspec.Struct, kw_only=True):
    """What a performance page draws.

    Attributes:
        merchant_id: whose numbers they are.
        timestamp: when they were put together, in milliseconds since the epoch.
        connected_clients: streams that are open, over all replicas that answered.
        replicas: how many those are.
        active_runs: runs that have not ended, those that wait among them.
        ended: runs that have ended, ever.
        last_hour: runs that have ended in the last sixty minutes.
        runs_per_minute: how many ended in a minute of these, on average.
        success_rate: of those that completed or failed in the last hour, the share that completed.
        throughput: the last sixty minutes, the current one last.
        run_latency: how long completed runs took, waits for people included.
        step_latency: how long steps took that succeeded, those that await somebody left out.
        workflows: by id; of more than a thousand the first.
    """

    merchant_id: str = msgspec.field(name="merchantId")
    timestamp: int
    connected_clients: int
    replicas: int
    active_runs: int
    ended: Ended
    last_hour: Ended
    runs_per_minute: float
    success_rate: float | None
    throughput: list[Minute]
    run_latency: Latency
    step_latency: Latency
    workflows: list[WorkflowStatistics]


def tenant_statistics(
    tenant: str,
    records: Mapping[str, RunHistory],
    active: Mapping[str, int],
    clients: tuple[int, int],
    now: float,
) -> TenantStatistics:
    """Put together the numbers of a tenant.

    Args:
        tenant: whose.
        records: what is remembered of its workflows' runs.
        active: by workflow, how many runs have not ended.
        clients: how many streams are open, on how many replicas.
        now: seconds since the epoch.
    """
    every, minutes = list(records.values()), _minutes(records.values(), now)
    last_hour = _ended(minutes)
    named = sorted(records.keys() | active.keys())[:_MOST_WORKFLOWS]
    streams, replicas = clients
    return TenantStatistics(
        merchant_id=tenant,
        timestamp=round(now * 1000),
        connected_clients=streams,
        replicas=replicas,
        active_runs=sum(active.values()),
        ended=_ended(every),
        last_hour=last_hour,
        runs_per_minute=round(
            (last_hour.completed + last_hour.failed + last_hour.cancelled) / MINUTES, 2
        ),
        success_rate=_success_rate(last_hour),
        throughput=minutes,
        run_latency=_latency(record.durations for record in every),
        step_latency=_latency(record.steps for record in every),
        workflows=[
            WorkflowStatistics(**_fields(name, records.get(name), active.get(name, 0), now))
            for name in named
        ],
    )


def workflow_details(
    definition: Definition, runs: RunHistory, nodes: NodeHistory, active: int, now: float
) -> WorkflowDetails:
    """Put together the numbers of a workflow.

    Args:
        definition: its newest version.
        runs: what is remembered of its runs.
        nodes: what is remembered of its nodes.
        active: how many runs have not ended.
        now: seconds since the epoch.
    """
    return WorkflowDetails(
        **_fields(definition.id, runs, active, now),
        throughput=_minutes([runs], now),
        nodes=[_node(node, spec.type, nodes) for node, spec in definition.nodes.items()],
    )


def _fields(name: str, record: RunHistory | None, active: int, now: float) -> dict[str, Any]:
    record = record or RunHistory()
    last_hour = _ended(_minutes([record], now))
    return {
        "workflow_id": name,
        "active_runs": active,
        "ended": _ended([record]),
        "last_hour": last_hour,
        "success_rate": _success_rate(last_hour),
        "run_latency": _latency([record.durations]),
        "step_latency": _latency([record.steps]),
    }


def _node(node: str, node_type: str, record: NodeHistory) -> NodeStatistics:
    latency, items = (
        _latency([record.durations.get(name, [])]) for name in (node, items_key(node))
    )
    trouble = record.failures.get(node) or FailureCounts()
    return NodeStatistics(
        node_id=node,
        node_type=node_type,
        succeeded=latency.count,
        failed=trouble.failed,
        retries=trouble.retries,
        skipped=trouble.skipped,
        latency=latency,
        items=items if items.count else msgspec.UNSET,
    )


def _ended(counted: Iterable[RunHistory | Minute]) -> Ended:
    ended = Ended(0, 0, 0)
    for each in counted:
        ended.completed += each.completed
        ended.failed += each.failed
        ended.cancelled += each.cancelled
    return ended


def _minutes(records: Iterable[RunHistory], now: float) -> list[Minute]:
    current = int(now // 60)
    known = list(records)
    minutes: list[Minute] = []
    for minute in range(current - MINUTES + 1, current + 1):
        ended = [record.minutes.get(minute, (0, 0, 0)) for record in known]
        counts = [sum(each) for each in zip(*ended, strict=True)] or [0, 0, 0]
        minutes.append(Minute(format_timestamp(minute * 60), *counts))
    return minutes


def _success_rate(ended: Ended) -> float | None:
    decided = ended.completed + ended.failed
    return round(ended.completed / decided, 4) if decided else None


def _latency(packed: Iterable[list[int]]) -> Latency:
    joined = Sketch()
    for each in packed:
        joined.merge(Sketch.unpack(each))
    if not joined.count:
        return Latency(0, None, None, None, None)
    return Latency(joined.count, *(round(value, 1) for value in joined.quantiles(_SHARES)))
