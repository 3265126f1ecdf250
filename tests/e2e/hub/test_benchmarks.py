"""The benchmarks of the streams run, and nothing is lost in them; their figures are not judged."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from typing import Any


async def _bench(*arguments: str) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace", "bench", *arguments, "--json", stdout=PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    rows: list[dict[str, Any]] = json.loads(output)
    return rows


async def test_fanout_reports_the_cost_of_an_event_and_a_connection() -> None:
    """There is one result per number of clients, mode and requested server."""
    rows = await _bench("fanout", "--clients", "50", "--deliveries", "500", "--beside")
    figures = {row["what"]: row["tailrace"] for row in rows}
    assert figures["50 clients, trickle: delivered of 500"] == 500
    assert figures["50 clients, burst: delivered of 500"] == 500
    assert figures["50 clients, burst: µs of CPU per event"] > 0
    assert "50 clients, KB per connection" in figures


async def test_latency_reports_how_long_events_take() -> None:
    """The median and the 99th percentile."""
    (row,) = await _bench("latency", "--clients", "20", "--events", "10", "--beside")
    assert row["delivered"] == "200 of 200"
    assert 0 < row["median"] <= row["p99"] <= row["max"]


async def test_size_measures_every_cost_and_computes_from_it() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tailrace", "bench", "size", "--json"),
        *("--streams", "30", "--deliveries", "10", "--idle-seconds", "1"),
        *("--runs", "5", "--commits", "200", "--pods", "1"),
        *("--clients", "5000", "--events", "500", "--executions", "100000"),
        stdout=PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    report = json.loads(output)
    costs = report["costs"]
    # Others may be lost in the noise of so short a measurement.
    certain = ("opening_us", "heartbeat_us", "frame_bytes", "leader_us", "step_bytes")
    assert all(costs[name] > 0 for name in certain)
    assert min(costs.values()) >= 0
    assert [row["5,000 clients"] for row in report["size"]][:3] == ["5,000", "500", "100,000"]
