"""Turns: work in small steps, so that nobody waits long for the event loop.

A broadcast to ten thousand connections is ten thousand writes. Done in one go they would hold up
everything else, the commits that come meanwhile among it, for as long as they take. So work is an
iterator whose steps are short; for a slice of time all work is stepped in turns, then the loop
gets its turn.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

import structlog

_SLICE: Final = 0.002
# Steps between two looks at the clock.
_STEPS: Final = 16

_log = structlog.get_logger("tailrace.api.fanout")

Work = Iterator[None]


class CooperativeScheduler:
    """Steps all work that was added, until it is done."""

    def __init__(self) -> None:
        self._work: deque[Work] = deque()
        self._is_planned = False

    def add(self, work: Work) -> None:
        """Have some work done soon, not now."""
        self._work.append(work)
        self._plan()

    def _plan(self) -> None:
        if self._work and not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_planned = False
        until = time.perf_counter() + _SLICE
        while self._work and time.perf_counter() < until:
            work = self._work.popleft()
            if self._step(work):
                self._work.append(work)
        self._plan()

    def _step(self, work: Work) -> bool:
        """Do some steps; returns whether there are more."""
        try:
            for _ in range(_STEPS):
                next(work)
        except StopIteration:
            return False
        except Exception:  # noqa: BLE001 - a bug of ours
            # What else there is to do must be done all the same.
            _log.exception("work in turns failed")
            return False
        return True
