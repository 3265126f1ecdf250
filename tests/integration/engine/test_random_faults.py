"""Random workflows, commands and faults, on real workers: a short run of ``python -m stress``.

A seed of a run that went wrong once is kept in ``RUNS``; processes do not interleave alike every
time, so such a seed makes the failure likely, not certain. ``PROOF_SECONDS=60`` makes each longer.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from stress.__main__ import arguments_of, stress

SECONDS: Final = os.environ.get("PROOF_SECONDS", "6")
RUNS: Final = [
    # A leaf's output was kept by reference, and its worker was lost before the end.
    "--seed 9",
    "--seed 20 --duplicates --no-nats",
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("line", RUNS)
async def test_every_execution_ends_under_any_faults_of_its_workers(line: str, tmp_path: Path):
    """Within a bounded time after the last fault, and with a log that keeps every promise."""
    await stress(arguments_of([*line.split(), "--seconds", SECONDS]), tmp_path)
