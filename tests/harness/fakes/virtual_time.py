"""Scenarios in virtual time: sleeping tasks wake at once, in the right order.

They run code that only waits and does no I/O. A virtual second takes as long as the work in it.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from tailrace.testing.virtual_loop import VirtualLoop

T = TypeVar("T")

_new_loop = partial(VirtualLoop, "deadlock: every task waits, and no timer is set")


def run_in_virtual_time(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario to its end.

    Raises:
        RuntimeError: Every task waits, and no timer is set.
    """
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(scenario)
