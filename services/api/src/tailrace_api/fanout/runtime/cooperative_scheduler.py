"""Run long work in small steps, so that the event loop stays responsive.

A broadcast to ten thousand connections is ten thousand writes. In one go they would block
everything else for as long as they take, including the commits that arrive meanwhile. So work is an
iterator with short steps. The scheduler steps all work round-robin for one time slice, then returns
to the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

import structlog

_SLICE_S: Final = 0.002
_STEPS_PER_CLOCK_READ: Final = 16

_log = structlog.get_logger("tailrace.api.fanout")

Work = Iterator[None]


class CooperativeScheduler:
    """Steps all added work until it is exhausted."""

    def __init__(self) -> None:
        self._work: deque[Work] = deque()
        self._is_scheduled = False

    def add(self, work: Work) -> None:
        """Schedule work; its first step runs in a later iteration of the event loop."""
        self._work.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if self._work and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        until = time.perf_counter() + _SLICE_S
        while self._work and time.perf_counter() < until:
            work = self._work.popleft()
            if self._step(work):
                self._work.append(work)
        self._schedule()

    def _step(self, work: Work) -> bool:
        """Run some steps; return whether more are left."""
        try:
            for _ in range(_STEPS_PER_CLOCK_READ):
                next(work)
        except StopIteration:
            return False
        except Exception:  # noqa: BLE001 - a bug in one piece of work must not stop the others
            _log.exception("scheduled work failed")
            return False
        return True
