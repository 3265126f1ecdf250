"""Statistics documents, computed from the records of finished runs. Pure."""

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

_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)
_MAX_WORKFLOWS: Final = 1000


class Latency(msgspec.Struct):
    """A latency distribution. Quantiles are accurate within a few percent.

    Attributes:
        count: The number of samples; old samples fade out.
    """

    count: int
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Ended(msgspec.Struct):
    """The number of finished runs by status."""

    completed: int
    failed: int
    cancelled: int


class Minute(msgspec.Struct):
    """The number of runs that finished within a minute, by status.

    Attributes:
        at: The start of the minute.
    """

    at: str
    completed: int
    failed: int
    cancelled: int


class WorkflowStatistics(msgspec.Struct, kw_only=True):
    """The statistics of a workflow.

    Attributes:
        active_runs: The number of unfinished runs, waiting runs included.
        ended: All finished runs.
        last_hour: The runs that finished in the last sixty minutes.
        success_rate: The completed share of runs that completed or failed in the last hour.
        run_latency: The durations of completed runs, waits included.
        step_latency: The durations of successful steps, without steps that wait for signals.
    """

    workflow_id: str
    active_runs: int
    ended: Ended
    last_hour: Ended
    success_rate: float | None
    run_latency: Latency
    step_latency: Latency


class NodeStatistics(msgspec.Struct):
    """The statistics of a node over its latest few hundred runs.

    Attributes:
        succeeded: The number of successes.
        failed: The number of final failures.
        retries: The number of retried attempts.
        skipped: The number of skips.
        latency: The durations of successful attempts.
        items: The durations of a map's items; absent for other nodes.
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
    """The statistics of a workflow by minute and by node.

    Attributes:
        throughput: The last sixty minutes, the current one last.
        nodes: The nodes in the order of the definition.
    """

    throughput: list[Minute]
    nodes: list[NodeStatistics]


class RunsStatistics(msgspec.Struct, kw_only=True):
    """The statistics of a tenant's runs.

    Attributes:
        merchant_id: The tenant.
        timestamp: The time of the statistics, in milliseconds since the epoch.
        active_runs: The number of unfinished runs, waiting runs included.
        ended: All finished runs.
        last_hour: The runs that finished in the last sixty minutes.
        runs_per_minute: The mean number of finished runs per minute in the last hour.
        success_rate: The completed share of runs that completed or failed in the last hour.
        throughput: The last sixty minutes, the current one last.
        run_latency: The durations of completed runs, waits included.
        step_latency: The durations of successful steps, without steps that wait for signals.
        workflows: The workflows by id; not all of very many.
    """

    merchant_id: str = msgspec.field(name="merchantId")
    timestamp: int
    active_runs: int
    ended: Ended
    last_hour: Ended
    runs_per_minute: float
    success_rate: float | None
    throughput: list[Minute]
    run_latency: Latency
    step_latency: Latency
    workflows: list[WorkflowStatistics]


class TenantStatistics(RunsStatistics, kw_only=True):
    """The statistics of a tenant, for a performance page.

    Attributes:
        connected_clients: The number of open streams on all replicas that responded.
        replicas: The number of these replicas.
    """

    connected_clients: int
    replicas: int


def merged(records: Iterable[RunHistory]) -> RunHistory:
    """Return the history of the runs of several workflows."""
    total, durations, steps = RunHistory(minutes={}), Sketch(), Sketch()
    for record in records:
        total.completed += record.completed
        total.failed += record.failed
        total.cancelled += record.cancelled
        for minute, ended in record.minutes.items():
            known = total.minutes.get(minute, (0, 0, 0))
            total.minutes[minute] = (
                known[0] + ended[0],
                known[1] + ended[1],
                known[2] + ended[2],
            )
        durations.merge(Sketch.unpack(record.durations))
        steps.merge(Sketch.unpack(record.steps))
    total.durations, total.steps = durations.pack(), steps.pack()
    return total


def runs_statistics(
    tenant: str,
    total: RunHistory,
    records: Mapping[str, RunHistory],
    active: Mapping[str, int],
    workflows: Iterable[str],
    now: float,
) -> RunsStatistics:
    """Return the statistics of a tenant's runs.

    Args:
        tenant: The tenant.
        total: The history of all its runs.
        records: The history of runs by workflow.
        active: The number of unfinished runs by workflow.
        workflows: The workflows to list.
        now: The time in seconds since the epoch.
    """
    return RunsStatistics(**_tenant_fields(tenant, total, records, active, workflows, now))


def tenant_statistics(
    tenant: str,
    records: Mapping[str, RunHistory],
    active: Mapping[str, int],
    clients: tuple[int, int],
    now: float,
) -> TenantStatistics:
    """Return the statistics of a tenant.

    Args:
        tenant: The tenant.
        records: The history of runs by workflow.
        active: The number of unfinished runs by workflow.
        clients: The number of open streams, and of the replicas that have them.
        now: The time in seconds since the epoch.
    """
    named = sorted(records.keys() | active.keys())[:_MAX_WORKFLOWS]
    streams, replicas = clients
    fields = _tenant_fields(tenant, merged(records.values()), records, active, named, now)
    return TenantStatistics(**fields, connected_clients=streams, replicas=replicas)


def _tenant_fields(
    tenant: str,
    total: RunHistory,
    records: Mapping[str, RunHistory],
    active: Mapping[str, int],
    workflows: Iterable[str],
    now: float,
) -> dict[str, Any]:
    minutes = _minutes([total], now)
    last_hour = _ended(minutes)
    in_an_hour = last_hour.completed + last_hour.failed + last_hour.cancelled
    return {
        "merchant_id": tenant,
        "timestamp": round(now * 1000),
        "active_runs": sum(active.values()),
        "ended": _ended([total]),
        "last_hour": last_hour,
        "runs_per_minute": round(in_an_hour / MINUTES, 2),
        "success_rate": _success_rate(last_hour),
        "throughput": minutes,
        "run_latency": _latency([total.durations]),
        "step_latency": _latency([total.steps]),
        "workflows": [
            WorkflowStatistics(**_fields(name, records.get(name), active.get(name, 0), now))
            for name in workflows
        ],
    }


def workflow_details(
    definition: Definition, runs: RunHistory, nodes: NodeHistory, active: int, now: float
) -> WorkflowDetails:
    """Return the statistics of a workflow, of which ``active`` runs are unfinished."""
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
    return Latency(joined.count, *(round(value, 1) for value in joined.quantiles(_QUANTILES)))
