"""Pause long computations in a thread, so that the event loop gets the interpreter's lock.

A thread that computes gives the lock away for a moment only. A loop that needs it for each of its
short steps would make hardly any progress.
"""

import time
from contextvars import ContextVar
from typing import Final

_WORK_S: Final = 0.005
_PAUSE_S: Final = 0.005


class _Pace:
    """The CPU time of a thread at its last pause, in seconds."""

    def __init__(self) -> None:
        self.paused_at = time.thread_time()


_pace: Final[ContextVar[_Pace | None]] = ContextVar("pace", default=None)


def begin() -> None:
    """Have the computations of this context pause from now on."""
    _pace.set(_Pace())


def pause() -> None:
    """Pause if the thread has computed for a while. Costs little, also on the loop."""
    pace = _pace.get()
    if pace is not None and time.thread_time() - pace.paused_at > _WORK_S:
        time.sleep(_PAUSE_S)
        pace.paused_at = time.thread_time()
