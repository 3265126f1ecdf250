"""Give memory back to the operating system while a worker is idle.

After a burst of runs, glibc keeps the freed memory of its arenas in the process.
"""

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final, NoReturn

_INTERVAL_S: Final = 60.0


async def give_back_when_idle(is_idle: Callable[[], bool]) -> NoReturn:
    """Give unused memory back once a minute, if the worker is idle then, until cancelled."""
    # Other C libraries do not have it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while True:
        await asyncio.sleep(_INTERVAL_S)
        if trim is not None and is_idle():
            # In a thread: it takes milliseconds, and ctypes releases the GIL.
            await asyncio.to_thread(trim, 0)
