"""The tables of ``bench size``: sizes for demands, and what a rollout does to the pods. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from benchmarks.sizing.arithmetic import Costs, Demand, Size, pods_reached, size
from benchmarks.sizing.spread import POLICIES, Policy, lose_pods, pods_of_runs, roll_out
from benchmarks.table import Row

SURGE: Final = 0.25
"""``api.maxSurge`` of the chart."""

_MIB: Final = 1024**2
_SIMULATED: Final = 200_000
"""Clients of a simulation at most; more give the same shares."""


def planned(costs: Costs, demand: Demand, policy: Policy = "chance") -> tuple[Demand, Size]:
    """Return a demand with the peak of a rollout of its own pods, and its size."""
    found = size(costs, demand)
    for _ in range(3):
        pods = found.api_pods
        clients = min(demand.clients, _SIMULATED)
        surge = math.ceil(pods * SURGE)
        peak = roll_out(clients, pods, surge, policy, seed=1).peak if clients else 1.0
        demand = replace(demand, peak=round(peak, 2))
        found = size(costs, demand)
        if found.api_pods == pods:
            break
    return demand, found


_SIZES: Final[tuple[tuple[str, Callable[[Demand, Size], str]], ...]] = (
    ("clients", lambda demand, _: f"{demand.clients:,}"),
    ("events/s", lambda demand, _: f"{demand.events_per_s:,.0f}"),
    ("executions/day", lambda demand, _: f"{demand.executions_per_day:,.0f}"),
    ("events delivered/s", lambda _, found: f"{found.deliveries_per_s:,.0f}"),
    ("API: pods", lambda _, found: f"{found.api_pods:,}"),
    ("API: streams of a pod", lambda _, found: f"{found.api_streams:,}"),
    ("API: fullest pod in a rollout", lambda demand, _: f"x {demand.peak:g}"),
    ("API: cores in use", lambda _, found: f"{found.api_cores:,.1f}"),
    (
        "API: streams' memory a pod, MiB",
        lambda _, found: f"{found.api_pod_memory / _MIB:,.0f}",
    ),
    ("API: pods that an event reaches", lambda _, found: f"{found.pods_reached:.1f}"),
    ("API: Gbit/s to clients", lambda _, found: f"{found.client_gbit_per_s:,.2f}"),
    ("workers: cores in use", lambda _, found: f"{found.worker_cores:,.2f}"),
    ("installations", lambda _, found: f"{found.installations}"),
    ("NATS: cores of the leader", lambda _, found: f"{found.nats_cores:,.2f}"),
    ("NATS: Gbit/s in", lambda _, found: f"{found.nats_in_gbit_per_s:.3f}"),
    ("NATS: Gbit/s out", lambda _, found: f"{found.nats_out_gbit_per_s:.3f}"),
    ("NATS: MB/s to disk", lambda _, found: f"{found.nats_write_bytes_per_s / 1e6:,.1f}"),
    ("NATS: GB of disk a server", lambda _, found: f"{found.nats_disk_bytes / 1e9:,.0f}"),
)


def size_rows(costs: Costs, demands: Sequence[Demand]) -> list[Row]:
    """Return the table of sizes, with a column for each demand."""
    columns = [planned(costs, demand) for demand in demands]
    return [
        {
            "what": what,
            **{f"{demand.clients:,} clients": cell(demand, found) for demand, found in columns},
        }
        for what, cell in _SIZES
    ]


def spread_rows(pods: int, clients: int) -> list[Row]:
    """Return the table of what a rollout and a loss do to the streams of the pods."""
    rows: list[Row] = []
    for policy in POLICIES:
        for surge in sorted({1, math.ceil(pods * SURGE), math.ceil(pods / 2), pods}):
            found = roll_out(clients, pods, surge, policy, seed=1)
            rows.append(
                {
                    "a new stream goes to": "any pod" if policy == "chance" else "the emptiest pod",
                    "maxSurge": surge,
                    "fullest before": f"x {found.before.fullest:.2f}",
                    "fullest during": f"x {found.peak:.2f}",
                    "emptiest and fullest after": f"x {found.after.emptiest:.2f} and "
                    f"x {found.after.fullest:.2f}",
                    "one stream age later": f"x {found.aged.emptiest:.2f} and "
                    f"x {found.aged.fullest:.2f}",
                    "reconnections of a client": f"{found.moves:.2f}, {found.most_moves} at most",
                }
            )
    return rows


def report(costs: Costs, demands: Sequence[Demand]) -> dict[str, Any]:
    """Return the costs, the sizes and what the simulation found, as JSON."""
    largest, found = planned(costs, demands[-1])
    pods, clients = found.api_pods, min(largest.clients, _SIMULATED)
    lost = max(1, round(pods * 0.1))
    return {
        "costs": asdict(costs),
        "size": size_rows(costs, demands),
        "spread": spread_rows(pods, clients),
        "simulated": {
            "pods": pods,
            "clients": clients,
            "pods that an event reaches": round(
                pods_of_runs(clients, pods, largest.followers, seed=1), 2
            ),
            "computed": round(pods_reached(pods, largest.followers), 2),
            "killed pods": lost,
            "fullest pod after": round(lose_pods(clients, pods, lost, "chance", seed=1).fullest, 2),
        },
    }
