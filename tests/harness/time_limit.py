"""End a test that has reached its time limit, also while its event loop waits.

The handler of pytest-timeout raises an exception. If a task other than the test's happens to run at
that moment, asyncio keeps the exception in that task, and the test would go on for ever.
"""

import asyncio
import signal
from functools import partial
from typing import Any, Final

_AGAIN_S: Final = 60.0
"""Time after which a test that does not return to its loop is ended by the exception."""


def end_waiting_tests() -> None:
    """Replace the handler of pytest-timeout by one that stops the running event loop."""
    if callable(handler := signal.getsignal(signal.SIGALRM)):
        signal.signal(signal.SIGALRM, partial(_end_test, handler))


def _end_test(handler: Any, number: int, frame: Any) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        handler(number, frame)
        return
    for task in asyncio.all_tasks(loop):
        task.print_stack()
    # The test fails, because its loop stops before it has ended.
    loop.call_soon_threadsafe(loop.stop)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
