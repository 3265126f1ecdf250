"""A process that held large values gives their memory back once they are freed."""

import os
import subprocess
import sys
from typing import Final

import pytest

from harness.processes.required_tools import skip_or_fail

_HELD_MIB: Final = 160
# After the first two blocks glibc takes blocks of their size from the heap, if it may. The small
# object lies behind them there, as objects do in any process that goes on.
_HOLDS_AND_FREES: Final = f"""
import sys
from tailrace_shared.process.freed_memory import return_freed_memory

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * {os.sysconf("SC_PAGESIZE")} // 2**20

if sys.argv[1] == "returns":
    return_freed_memory()
before = resident_mib()
for _ in range(2):
    large = b"x" * (16 * 2**20)
    del large
held = [b"x" * (8 * 2**20) for _ in range({_HELD_MIB // 8})]
behind = b"x" * 100_000
del held
print(resident_mib() - before)
"""


@pytest.fixture(autouse=True)
def glibc() -> None:
    """Skip the tests with another C library, which keeps memory in ways of its own."""
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        skip_or_fail("glibc", "run the test on a Linux that has it, such as Debian")


def _kept_mib(how: str, **environment: str) -> int:
    """Return how much memory a process keeps that held and freed a lot, in MiB."""
    command = [sys.executable, "-c", _HOLDS_AND_FREES, how]
    inherited = {name: each for name, each in os.environ.items() if not name.startswith("MALLOC")}
    done = subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_freed_memory_is_returned() -> None:
    assert _kept_mib("keeps") > _HELD_MIB // 2
    assert _kept_mib("returns") < _HELD_MIB // 8


def test_settings_of_the_operator_take_precedence() -> None:
    assert _kept_mib("returns", GLIBC_TUNABLES="glibc.malloc.check=0") > _HELD_MIB // 2
