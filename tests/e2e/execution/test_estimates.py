"""The estimate of the remaining time, in events, in the feed and in the run document.

`tests/unit/test_estimate.py` measures the accuracy of estimates in virtual time. Here the real
duration depends on the load of the machine, so the test only compares the first estimate with the
longest path of the durations of earlier runs.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp
from harness.sse.client import SseClient
from tailrace import Client
from tailrace.wfcommons import import_trace

TRACE = next((Path(__file__).parents[3] / "examples" / "traces").glob("epigenomics*.json"))
SCALE = 0.03
"""Seconds of sleep per recorded second: a run takes about three and a half seconds."""
ROUNDING = 0.02
"""Relative error of recorded durations (sketches), rounded up."""

Logs = list[dict[str, Any]]


def _install(client: Client) -> dict[str, Any]:
    workflow: dict[str, Any] = import_trace(TRACE.read_bytes(), "estimated", SCALE)
    for node in workflow["nodes"].values():
        node["with"]["progress"] = True
    client.apply(workflow)
    return workflow


def _run(client: Client, workflow: str) -> Logs:
    """Run a workflow to its end; return its log."""
    execution = client.run(workflow, {})["execution_id"]
    assert list(client.events(execution))[-1].type == "execution:completed"
    logs: Logs = client.get(execution, include_logs=True)["logs"]
    return logs


async def _recorded(api: httpx.AsyncClient, workflow: str, runs: int) -> None:
    """Wait until the statistics hold ``runs`` runs of every node."""

    async def are_recorded() -> bool:
        stats = (await api.get(f"/api/v1/workflows/{workflow}/stats")).json()
        return all(node["succeeded"] == runs for node in stats["nodes"])

    await until(are_recorded)


async def _documents(api: httpx.AsyncClient, execution: str) -> list[dict[str, Any]]:
    """Poll the document of a run until the run has ended; return each response."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] != "completed":
        seen.append((await api.get(f"/api/v1/executions/{execution}")).json())
    return seen


async def _feed(feed: SseClient) -> list[dict[str, Any]]:
    """Return the progress events of the feed until the run has ended."""
    seen: list[dict[str, Any]] = []
    async for event in feed:
        if event.type == "progress":
            seen.append(event.json())
            if (seen[-1]["progress"], seen[-1]["message"]) == (100, "completed"):
                break
    return seen


def _durations(logs: Logs) -> dict[str, int]:
    """Return the duration of each node, in milliseconds."""
    return {
        event["data"]["node_id"]: event["data"]["duration_ms"]
        for event in logs
        if event["type"] == "step:completed"
    }


def _longest_path(workflow: dict[str, Any], durations: dict[str, int]) -> int:
    """Return the duration of the longest path, in milliseconds."""
    ends: dict[str, int] = {}

    def end(node: str) -> int:
        if node not in ends:
            needs = workflow["nodes"][node].get("needs", [])
            ends[node] = durations[node] + max(map(end, needs), default=0)
        return ends[node]

    return max(map(end, workflow["nodes"]))


async def test_events_feed_and_document_estimate_the_remaining_time(system: TailraceUp):
    """All three derive it from the durations of earlier runs."""
    headers = {"x-organization-id": "eta"}
    with Client(system.url, organization="eta") as client:
        workflow = _install(client)
        name = workflow["id"]
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=60) as api:
            first = _durations(_run(client, name))
            await _recorded(api, name, 1)
            # By now the worker's cached "no runs yet" has expired.
            second = _durations(_run(client, name))
            await _recorded(api, name, 2)
            async with SseClient(system.port, "/api/realtime/events?merchantId=eta") as feed:
                # The feed shows every event after the id that it sends first.
                while not feed.parser.first_id:
                    assert await feed.read() is not None
                reading = asyncio.create_task(_feed(feed))
                third = client.run(name, {})["execution_id"]
                documents = await _documents(api, third)
                fed = await reading
            logs = (await api.get(f"/api/v1/executions/{third}?include_logs=true")).json()["logs"]
    started = next(event for event in logs if event["type"] == "execution:started")
    expected = started["data"]["eta_ms"]
    # The worker may have read the statistics of both runs, or of the first only.
    shortest, longest = (
        _longest_path(workflow, {node: choose(first[node], second[node]) for node in first})
        for choose in (min, max)
    )
    assert shortest * (1 - ROUNDING) <= expected <= longest * (1 + ROUNDING)
    reports = [event for event in logs if event["type"] == "step:progress"]
    assert all("progress" in event["data"] for event in reports)
    assert min(event["data"]["eta_ms"] for event in reports) < expected
    *by_feed, last = fed
    assert [(event.get("nodeId"), event["eta_ms"]) for event in by_feed] == [
        (event["data"].get("node_id"), event["data"]["eta_ms"]) for event in [started, *reports]
    ]
    assert last["eta_ms"] == 0
    assert any(run["eta_ms"] is not None for run in documents[:-1])
    assert documents[-1]["eta_ms"] == 0
    shown = [run["progress"] for run in documents]
    assert shown == sorted(shown)
