"""How long a run still takes, as everybody is told who watches one: a recorded workflow, slowed."""

import asyncio
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from harness.sse import SseClient
from harness.up import Up
from tailrace import Client
from tailrace.wfcommons import import_trace
from tailrace_shared.execution.events import parse_timestamp

TRACE = next((Path(__file__).parents[3] / "examples" / "traces").glob("epigenomics*.json"))
SCALE = 0.03
"""Seconds of sleep for each recorded second: the run takes some three and a half."""


def _install(client: Client) -> str:
    workflow: dict[str, Any] = import_trace(TRACE.read_bytes(), "estimated", SCALE)
    for node in workflow["nodes"].values():
        node["with"]["progress"] = True
    client.apply(workflow)
    return str(workflow["id"])


async def _documents(api: httpx.AsyncClient, execution: str) -> list[tuple[float, dict[str, Any]]]:
    """Poll a run until it has ended; returns what it said and when."""
    seen: list[tuple[float, dict[str, Any]]] = []
    loop = asyncio.get_running_loop()
    while True:
        run = (await api.get(f"/api/v1/executions/{execution}")).json()
        seen.append((loop.time(), run))
        if run["status"] == "completed":
            return seen


def _errors(told: list[tuple[float, float | None]], end: float) -> list[float]:
    """Return by how many seconds estimates were wrong: (when, seconds) each."""
    return [abs(end - at - left) for at, left in told if left is not None]


async def test_everybody_is_told_how_long_a_run_still_takes(system: Up):
    """By the events of its log, the tenant's feed and its document, and all of them about right."""
    headers = {"x-organization-id": "eta"}
    with Client(system.url, organization="eta") as client:
        workflow = _install(client)
        first = client.run(workflow, {})["execution_id"]
        assert list(client.events(first))[-1].type == "execution:completed"
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=20) as api:
            stats = f"/api/v1/workflows/{workflow}/stats"
            while (await api.get(stats)).json()["ended"]["completed"] < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # A second before the worker believes no more that there has been no run.
            second = client.run(workflow, {})["execution_id"]
            for _event in client.events(second):
                pass
            async with SseClient(system.port, "/api/realtime/events?merchantId=eta") as feed:
                reading = asyncio.create_task(_feed(feed))
                third = client.run(workflow, {})["execution_id"]
                documents = await _documents(api, third)
                fed = await reading
            logs = (await api.get(f"/api/v1/executions/{third}?include_logs=true")).json()["logs"]
    end = parse_timestamp(logs[-1]["timestamp"])
    started = next(event for event in logs if event["type"] == "execution:started")
    took = end - parse_timestamp(started["timestamp"])
    assert abs(started["data"]["eta_ms"] / 1000 - took) < 0.3 * took
    reports = [event for event in logs if event["type"] == "step:progress"]
    assert all("progress" in event["data"] for event in reports)
    by_events = [
        (parse_timestamp(event["timestamp"]), _seconds(event["data"].get("eta_ms")))
        for event in reports
    ]
    by_feed = [(each["timestamp"] / 1000, _seconds(each.get("eta_ms"))) for each in fed]
    by_documents = [(at, _seconds(run["eta_ms"])) for at, run in documents]
    for told, over in (
        (by_events, end),
        (by_feed, end),
        (by_documents, documents[-1][0]),
    ):
        found = _errors(told, over)
        assert len(found) > 10
        assert median(found) < 0.15 * took
        assert max(found) < took
    shown = [run["progress"] for _at, run in documents]
    assert shown == sorted(shown)


async def _feed(feed: SseClient) -> list[dict[str, Any]]:
    """Read the progress of the feed until the run has ended."""
    seen: list[dict[str, Any]] = []
    async for event in feed:
        if event.type == "progress":
            seen.append(event.json())
            if seen[-1]["progress"] == 100 and seen[-1]["message"] == "completed":
                break
    return seen


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
