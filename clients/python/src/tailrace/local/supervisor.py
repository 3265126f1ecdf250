"""Start child processes until ready, restart them when they end, and stop them in order.

The first start of a child must succeed: a wrong setting, a taken port or a missing NATS does not
resolve itself, and the operator is present to read the cause. After that an ended child is
restarted, with exponential backoff while it keeps ending soon.
"""

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from tailrace.errors import StartError
from tailrace.local.child import Child, describe_exit
from tailrace.local.console import Console

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 30.0
STABLE_AFTER_S: Final = 30.0
"""Lifetime after which the backoff of a child is reset."""
START_TIMEOUT_S: Final = 90.0
"""Longer than services wait for NATS, so that their own message says what is missing."""

_RESTART_TIMEOUT_S: Final = 10.0

_REFUSED_TO_START: Final = 2


class Backoff:
    """The delays before the restarts of one child."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_S

    def after(self, lifetime: float) -> float:
        """Return the delay before the next start of a child that lived ``lifetime`` seconds."""
        if lifetime >= STABLE_AFTER_S:
            self._delay = FIRST_DELAY_S
        delay, self._delay = self._delay, min(self._delay * 2, MAX_DELAY_S)
        return delay


class Supervisor:
    """Supervises the children of one ``tailrace up``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watches: dict[Child, asyncio.Task[None]] = {}

    async def start(self, children: Sequence[Child]) -> None:
        """Start ``children`` concurrently; return when all are ready.

        Raises:
            StartError: with the message of the first child that could not start.
        """
        starts = [asyncio.create_task(self._start(child)) for child in children]
        try:
            for start in asyncio.as_completed(starts):
                await start
        finally:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        for child in children:
            child.release()

    async def stop(self, children: Sequence[Child], deadline: float) -> None:
        """Terminate ``children``, and kill those that still run at ``deadline`` (loop time)."""
        for child in children:
            if watch := self._watches.pop(child, None):
                watch.cancel()
            child.send(signal.SIGTERM)
        endings = [asyncio.create_task(child.ended()) for child in children]
        if not endings:
            return
        remaining = deadline - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(endings, timeout=max(remaining, 0))
        if late:
            for child in children:
                child.kill()
            await asyncio.wait(late)

    async def restart(self, child: Child) -> None:
        """End the process of ``child``; another takes its place as after any other end."""
        child.send(signal.SIGTERM)
        ended = asyncio.create_task(child.ended())
        if not (await asyncio.wait({ended}, timeout=_RESTART_TIMEOUT_S))[0]:
            child.kill()
            await ended

    async def replace(self, child: Child) -> None:
        """End the process of ``child`` and start another one at once, even if it crashes."""
        if watch := self._watches.pop(child, None):
            watch.cancel()
        await self.restart(child)
        await child.start()
        self._watches[child] = asyncio.create_task(self._keep_alive(child))

    def kill(self, children: Sequence[Child]) -> None:
        """Kill ``children``; a concurrent ``stop`` then returns."""
        for child in children:
            child.kill()

    async def _start(self, child: Child) -> None:
        await child.start()
        ready = asyncio.ensure_future(child.program.until_ready())
        ended = asyncio.create_task(child.ended())
        try:
            await asyncio.wait(
                {ready, ended}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                raise StartError(_start_failure(child, ended.result()))
            if not ready.done():
                raise StartError(f"{child.name} was not ready within {START_TIMEOUT_S:g} s")
        finally:
            ready.cancel()
            ended.cancel()
        self._watches[child] = asyncio.create_task(self._keep_alive(child))

    async def _keep_alive(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            started = loop.time()
            code = await child.ended()
            delay = backoff.after(loop.time() - started)
            self._console.say(
                f"{child.name} ended with {describe_exit(code)}; restarting in {delay:g} s"
            )
            await asyncio.sleep(delay)
            try:
                await child.start()
            except OSError as error:  # Out of memory or processes; try again later.
                self._console.say(f"{child.name} cannot be started: {error.strerror}")


def _start_failure(child: Child, code: int) -> str:
    """Return the message for a child that could not start.

    A service with an invalid configuration reports it in its last line and exits with 2. Any other
    end is a crash, and then all of its output may matter.
    """
    lines = b"".join(child.held).decode(errors="replace").strip().splitlines()
    if code == _REFUSED_TO_START and lines:
        return lines[-1]
    ending = f"{child.name} ended with {describe_exit(code)} before it was ready"
    if child.program.log:
        ending += f"; its log is {child.program.log}"
    return "\n".join([*lines, ending])
