"""The short form of the fault campaigns: each kind of fault once, on clusters of three nodes.

`tests/README.md` says how to run the long form.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from harness.faults.sandbox import obstacle
from harness.processes.required_tools import skip_or_fail
from stress.fault_kinds import KINDS

_TESTS: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 1800
_SIZE: Final = ("--executions", "16", "--clients", "16", "--seconds", "4")
# How soon services report a fault depends on the machine: only the long form is exact.
_PATIENCE: Final = ("--bound", "150", "--slack", "25")
_GROUPS: Final = {
    "network": ("healthy", "partition-node", "partition-leader", "partition-all", "cut-clients"),
    "nodes": ("kill-leaders", "freeze-leader", "kill-all", "lose-data"),
    "disks": ("fill-disk", "read-only-disk", "fill-disks", "restore-backup"),
}

Campaigns = Mapping[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaigns]:
    """Start a campaign for each group: faults take time, but little of the processor's."""
    if reason := obstacle(str(tmp_path_factory.mktemp("probe"))):
        skip_or_fail("a sandbox", f"run as root, with namespaces and loop devices: {reason}")
    started = {
        group: subprocess.Popen(
            [sys.executable, "-m", "stress", *_SIZE, *_PATIENCE, *_options(kinds)],
            cwd=_TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for group, kinds in _GROUPS.items()
    }
    yield started
    for campaign in started.values():
        campaign.kill()
        campaign.wait()
        if campaign.stdout is not None:
            campaign.stdout.close()


def _options(kinds: tuple[str, ...]) -> list[str]:
    return [option for kind in kinds for option in ("--fault", kind)]


def test_every_kind_has_a_group() -> None:
    assert sorted(kind for kinds in _GROUPS.values() for kind in kinds) == sorted(KINDS)


@pytest.mark.timeout(_TIMEOUT_S)
@pytest.mark.parametrize("group", _GROUPS)
def test_everything_settles_after_each_kind_of_fault(
    campaigns: Campaigns, group: str, record_property: Callable[[str, object], None]
) -> None:
    """No start is lost, no effect happens twice, and each client's events equal the log."""
    output, _ = campaigns[group].communicate()
    assert campaigns[group].returncode == 0, output
    for line in output.splitlines():
        kind, _, summary = line.partition(": ")
        if kind in KINDS:
            record_property(kind, summary)
