"""Recorded workflows run to their end on all services, and their clients miss no event."""

import asyncio
import os
import random
import signal
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from harness.processes.tailrace_up import TailraceUp
from harness.sse.client import follow
from tailrace import Client
from tailrace.wfcommons import import_trace

TRACES = sorted((Path(__file__).parents[3] / "examples" / "traces").glob("*.json"))
TERMINAL = {"execution:completed", "execution:failed", "execution:cancelled"}

Span = tuple[int, int]


def install(client: Client, trace: Path, name: str, scale: float) -> dict[str, Any]:
    """Store a trace as a workflow with its own name; return its definition."""
    workflow = {**import_trace(trace.read_bytes(), trace.stem, scale), "id": name}
    client.apply(workflow)
    return workflow


def run_to_the_end(client: Client, workflow: str) -> dict[str, Any]:
    """Run a workflow to its end; return the run document with its log."""
    execution = client.run(workflow, {})["execution_id"]
    for _event in client.events(execution):
        pass
    return client.get(execution, include_logs=True)


def spans(logs: list[dict[str, Any]]) -> dict[str, Span]:
    """Return the positions in the log at which each node started and completed."""
    started: dict[str, int] = {}
    found: dict[str, Span] = {}
    for place, event in enumerate(logs):
        node = event["data"].get("node_id")
        if event["type"] == "step:started":
            assert node not in started, f"{node} started twice"
            started[node] = place
        elif event["type"] == "step:completed":
            found[node] = (started[node], place)
    return found


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.stem)
def test_a_recorded_workflow_completes_in_its_own_order(client: Client, trace: Path):
    """Each node completes once, after its parents; independent nodes overlap; one event ends it."""
    workflow = install(client, trace, f"order-{trace.stem[:40]}", 0.002)
    run = run_to_the_end(client, workflow["id"])
    assert run["status"] == "completed"
    logs = run["logs"]
    assert logs[-1]["data"]["execution_time_ms"] >= 0
    completions = Counter(
        event["data"]["node_id"] for event in logs if event["type"] == "step:completed"
    )
    assert completions == dict.fromkeys(workflow["nodes"], 1)
    assert [event["type"] in TERMINAL for event in logs] == [False] * (len(logs) - 1) + [True]
    span = spans(logs)
    for node_id, node in workflow["nodes"].items():
        for need in node.get("needs", []):
            assert span[need][1] < span[node_id][0], f"{node_id} started before {need} completed"
    assert any(
        one[0] < other[1] and other[0] < one[1] for one, other in combinations(span.values(), 2)
    ), "no two nodes ran concurrently"


@pytest.mark.parametrize("seed", range(6))
def test_a_client_that_is_cut_while_the_run_goes_on_gets_exactly_the_log(
    system: TailraceUp, client: Client, seed: int
):
    """Cut at arbitrary bytes, resumed each time on another replica: no gap, no duplicate."""
    install(client, TRACES[0], "cut", 0.004)
    execution = client.run("cut", {})["execution_id"]
    source = random.Random(seed)

    async def watch() -> list[tuple[str, str]]:
        received: list[tuple[str, str]] = []
        last_id, replica = "", 0
        while True:
            replica = (replica + 1) % 3
            async with follow(system.port + replica, execution, last_id) as stream:
                events = await stream.until_cut(source.randint(1, 6000))
            received += [(event.id, event.type) for event in events if event.is_logged]
            last_id = stream.parser.last_event_id or last_id
            if stream.status == 204:
                return received

    received = asyncio.run(watch())
    logs = client.get(execution, include_logs=True)["logs"]
    assert received == [(event["id"], event["type"]) for event in logs]


def test_a_worker_killed_in_the_middle_of_a_run_costs_no_completed_step(
    system: TailraceUp, client: Client
):
    """SIGKILL with another worker alive: the run completes, and no completed step runs again."""
    install(client, TRACES[1], "killed", 0.05)
    execution = client.run("killed", {})["execution_id"]
    workers = [pid for pid, line in system.children().items() if "worker" in line]
    # Either worker may drive the run, so kill one after the other.
    to_kill = dict(zip((10, 20), workers, strict=True))
    completions = 0
    for event in client.events(execution):
        completions += event.type == "step:completed"
        if event.type == "step:completed" and completions in to_kill:
            os.kill(to_kill.pop(completions), signal.SIGKILL)
    assert not to_kill
    logs = client.get(execution, include_logs=True)["logs"]
    assert logs[-1]["type"] == "execution:completed"
    completed: set[str] = set()
    for entry in logs:
        node = entry["data"].get("node_id")
        if entry["type"] == "step:completed":
            assert node not in completed
            completed.add(node)
        assert not (entry["type"] == "step:started" and node in completed)


def test_the_purchase_order_example_reads_a_real_order(client: Client):
    """The example's functions extract quantities, prices, totals and a confidence from the CSV."""
    samples = Path(__file__).parents[3] / "examples" / "purchase_order" / "samples"
    order = (samples / "office-furniture.csv").read_text()
    execution = client.run("purchase-order", {"po_number": "PO-1", "csv": order})["execution_id"]
    for _event in client.events(execution):
        pass
    run = client.get(execution)
    assert run["status"] == "completed", run["error"]
    parsed = next(step for step in run["steps"] if step["node_id"] == "parse")["output"]
    assert len(parsed["items"]) == 4
    for item in parsed["items"]:
        assert {"quantity", "unit_price", "total"} <= item.keys()
    assert 0 < parsed["confidence"] <= 1
