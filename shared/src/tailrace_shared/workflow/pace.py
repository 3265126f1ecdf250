"""Pause long computations in a thread, so that the event loop gets the interpreter's lock.

A thread that computes gives the lock away for a moment only. A loop that needs it for each of its
short steps would make hardly any progress.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

_WORK_S: Final = 0.005
_MAX_PAUSE_S: Final = 0.05


class _Pace:
    """The CPU time of a thread at its last pause, in seconds, and what it does after a pause."""

    def __init__(self, pass_on: Callable[[], None]) -> None:
        self.paused_at = time.thread_time()
        self.pass_on = pass_on


_pace: Final[ContextVar[_Pace | None]] = ContextVar("pace", default=None)


def begin(pass_on: Callable[[], None]) -> None:
    """Have the computations of this context pause from now on.

    Args:
        pass_on: lets other computations go first; called after each pause.
    """
    _pace.set(_Pace(pass_on))


def pause() -> None:
    """Pause for as long as the thread has computed, if that is long. Costs little on the loop."""
    pace = _pace.get()
    if pace is not None and (worked := time.thread_time() - pace.paused_at) > _WORK_S:
        time.sleep(min(worked, _MAX_PAUSE_S))
        pace.pass_on()
        pace.paused_at = time.thread_time()
