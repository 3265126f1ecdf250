"""How long a run still takes, as everybody is told who watches one: a recorded workflow, slowed.

How good estimates are is judged in virtual time (`tests/unit/test_estimate.py`). Here nobody knows
how long a run will take, on a machine that others use; but what is told of it at its beginning
must be as long as its graph takes with the durations that there have been.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from harness.processes.tailrace_up import TailraceUp
from harness.sse.client import SseClient
from tailrace import Client
from tailrace.wfcommons import import_trace

TRACE = next((Path(__file__).parents[3] / "examples" / "traces").glob("epigenomics*.json"))
SCALE = 0.03
"""Seconds of sleep for each recorded second: the run takes some three and a half."""
ROUNDING = 0.02
"""By how much a duration that is remembered may differ from the one that was, and more."""

Logs = list[dict[str, Any]]


def _install(client: Client) -> dict[str, Any]:
    workflow: dict[str, Any] = import_trace(TRACE.read_bytes(), "estimated", SCALE)
    for node in workflow["nodes"].values():
        node["with"]["progress"] = True
    client.apply(workflow)
    return workflow


def _run(client: Client, workflow: str) -> Logs:
    """Run a workflow to its end; returns its log."""
    execution = client.run(workflow, {})["execution_id"]
    assert list(client.events(execution))[-1].type == "execution:completed"
    logs: Logs = client.get(execution, include_logs=True)["logs"]
    return logs


async def _remembered(api: httpx.AsyncClient, workflow: str, runs: int) -> None:
    """Wait until so many runs of all nodes are remembered."""
    while True:
        stats = (await api.get(f"/api/v1/workflows/{workflow}/stats")).json()
        if all(node["succeeded"] == runs for node in stats["nodes"]):
            return
        await asyncio.sleep(0.1)


async def _documents(api: httpx.AsyncClient, execution: str) -> list[dict[str, Any]]:
    """Poll a run until it has ended; returns what it said."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] != "completed":
        seen.append((await api.get(f"/api/v1/executions/{execution}")).json())
    return seen


async def _feed(feed: SseClient) -> list[dict[str, Any]]:
    """Read the progress of the feed until the run has ended."""
    seen: list[dict[str, Any]] = []
    async for event in feed:
        if event.type == "progress":
            seen.append(event.json())
            if (seen[-1]["progress"], seen[-1]["message"]) == (100, "completed"):
                break
    return seen


def _durations(logs: Logs) -> dict[str, int]:
    """Return how long each node took, in milliseconds."""
    return {
        event["data"]["node_id"]: event["data"]["duration_ms"]
        for event in logs
        if event["type"] == "step:completed"
    }


def _longest_path(workflow: dict[str, Any], durations: dict[str, int]) -> int:
    """Return how long a workflow takes if its nodes take so long, and nothing else any time."""
    ends: dict[str, int] = {}

    def end(node: str) -> int:
        if node not in ends:
            needs = workflow["nodes"][node].get("needs", [])
            ends[node] = durations[node] + max(map(end, needs), default=0)
        return ends[node]

    return max(map(end, workflow["nodes"]))


async def test_everybody_is_told_how_long_a_run_still_takes(system: TailraceUp):
    """By the events of its log, the tenant's feed and its document, from what runs took before."""
    headers = {"x-organization-id": "eta"}
    with Client(system.url, organization="eta") as client:
        workflow = _install(client)
        name = workflow["id"]
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=60) as api:
            first = _durations(_run(client, name))
            await _remembered(api, name, 1)
            # Longer than a worker believes that there has been no run.
            second = _durations(_run(client, name))
            await _remembered(api, name, 2)
            async with SseClient(system.port, "/api/realtime/events?merchantId=eta") as feed:
                # From the place that it tells on, it shows everything.
                while not feed.parser.primings:
                    assert await feed.read() is not None
                reading = asyncio.create_task(_feed(feed))
                third = client.run(name, {})["execution_id"]
                documents = await _documents(api, third)
                fed = await reading
            logs = (await api.get(f"/api/v1/executions/{third}?include_logs=true")).json()["logs"]
    started = next(event for event in logs if event["type"] == "execution:started")
    expected = started["data"]["eta_ms"]
    # A worker may know both runs, or the first of them only.
    shortest, longest = (
        _longest_path(workflow, {node: choose(first[node], second[node]) for node in first})
        for choose in (min, max)
    )
    assert shortest * (1 - ROUNDING) <= expected <= longest * (1 + ROUNDING)
    reports = [event for event in logs if event["type"] == "step:progress"]
    assert all("progress" in event["data"] for event in reports)
    assert min(event["data"]["eta_ms"] for event in reports) < expected
    *by_feed, last = fed
    assert [(told.get("nodeId"), told["eta_ms"]) for told in by_feed] == [
        (event["data"].get("node_id"), event["data"]["eta_ms"]) for event in [started, *reports]
    ]
    assert last["eta_ms"] == 0
    assert any(run["eta_ms"] is not None for run in documents[:-1])
    assert documents[-1]["eta_ms"] == 0
    shown = [run["progress"] for run in documents]
    assert shown == sorted(shown)
