"""The benchmark of the engine runs, as small as possible; its figures are not judged."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

import pytest


@pytest.mark.timeout(900)  # five installations, one after the other
async def test_engine_measures_every_kind_of_durability() -> None:
    """Each burst and each single run is awaited until its runs have ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tailrace", "bench", "engine", "--json"),
        *("--executions", "2", "--rounds", "1", "--runs", "1", "--nodes", "10"),
        stdout=PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    report = json.loads(output)
    ours = [row for row in report["figures"] if row["engine"].startswith("Tailrace")]
    assert {(row["figure"], row["survives"]) for row in ours} == {
        (figure, survives)
        for survives in ("power failure", "process crash")
        for figure in (
            "2 executions x 20 steps, 1 worker process(es)",
            "2 executions x 20 steps, 2 worker process(es)",
            "chain of 1, start to end",
            "chain of 40, start to end",
        )
    }
    assert all(row["median"] > 0 for row in ours)
    assert len(report["cpu"]) >= 8
    shapes = [row["shape"] for row in report["growth"]]
    assert shapes == 2 * ["chain", "wide, a join of 8"]
