"""The benchmarks of broker, lists, retention and topics run, each as small as it can be.

What they deliver, store and list is checked; their figures are not judged.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)  # each starts several services, one after the other


async def _bench(*arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace", "bench", *arguments, "--json", stdout=PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def test_broker_measures_ours_and_names_those_that_are_not_installed() -> None:
    """It measures the consumption until every message has run."""
    rows = await _bench("broker", "--messages", "2100")
    assert [row["what"] for row in rows] == [
        "enqueue one by one, 1/s",
        "enqueue_many, 1/s",
        "consume with 8 threads, 1/s",
        "latency at rest, median ms",
        "latency at rest, p99 ms",
    ]
    assert all(row["nats"] > 0 for row in rows)
    for row in rows:
        for other in ("redis", "rabbitmq"):
            is_absent = row[other] in ("not installed", "-")
            assert is_absent == (row[f"to {other}"] == "-")


async def test_lists_measures_every_kind_of_page() -> None:
    """A request that is refused ends the benchmark."""
    rows = await _bench("lists", "--finished", "100", "--waiting", "10", "--requests", "1")
    kinds = [row["what"].partition(",")[0] for row in rows]
    assert kinds == [
        *("worker start-up", "API start-up"),
        *2 * ["paused list"],
        *7 * ["run list"],
        *2 * ["waiting list"],
    ]
    assert all(row["empty_ms"] > 0 and row["full_ms"] > 0 for row in rows)


async def test_retention_keeps_what_each_way_has_to_keep() -> None:
    """Ten commits of an execution, five of one that waits; a checkpoint replaces these."""
    small = ("--executions", "40", "--waiting", "10", "--sync-seconds", "0.3")
    rows = {row["way"]: row for row in await _bench("retention", *small)}
    assert {(row["ended"], row["waiting"]) for row in rows.values()} == {(30, 10)}
    kept = {way: row["messages after"] for way, row in rows.items()}
    assert (kept["delete"], kept["checkpoint"]) == (10 * 5, 10)
    # Everything after the first commit of the oldest that waits.
    assert 10 * 5 <= kept["truncate"] <= 30 * 10 + 10 * 5


async def test_topics_deliver_every_event_to_every_stream() -> None:
    """To sets of runs, also after all clients have left; to feeds; to pipelines."""
    rows = await _bench(
        *("topics", "--sets", "4", "--topics", "2", "--modes", "returning"),
        *("--tenants", "2", "--feeds", "2", "--pipelines", "20", "--watchers", "2"),
        *("--rate", "20", "--seconds", "1"),
    )
    assert [row["opened"] for row in rows] == 3 * ["4 of 4"]
    delivered = [row["delivered"].split(" of ") for row in rows]
    assert all(found == wanted != "0" for found, wanted in delivered)
    assert [row["refused"] + row["others' failures"] for row in rows] == [0, 0, 0]
