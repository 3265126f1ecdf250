"""Supervision: children are started until ready, restarted when they end, and stopped in order.

The first start of a child must succeed: what keeps it from becoming ready (a setting, a port, a
NATS) will not go away by itself, and the operator is there to read why. After that a child that
ends is started again, for ever, after a pause that doubles while it keeps ending soon.
"""

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from tailrace.errors import StartError
from tailrace.local.child import Child, describe_exit
from tailrace.local.console import Console

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
STABLE_AFTER: Final = 30.0
"""Seconds of life after which a child's next end counts as its first."""
START_TIMEOUT: Final = 60.0

_REFUSED_TO_START: Final = 2


class Backoff:
    """The pauses before the restarts of one child."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def after(self, lifetime: float) -> float:
        """Return the pause before the next start of a child that lived ``lifetime`` seconds."""
        if lifetime >= STABLE_AFTER:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


class Supervisor:
    """Owns all children of one ``tailrace up``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watches: dict[Child, asyncio.Task[None]] = {}

    async def start(self, children: Sequence[Child]) -> None:
        """Start ``children`` beside each other; return when all are ready.

        Raises:
            StartError: with the line of the first child that could not start.
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
        """Ask ``children`` to end, and kill those that still run at ``deadline`` (loop time)."""
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

    def kill(self, children: Sequence[Child]) -> None:
        """End ``children`` at once; a ``stop`` under way then returns."""
        for child in children:
            child.kill()

    async def _start(self, child: Child) -> None:
        await child.start()
        ready = asyncio.ensure_future(child.program.until_ready())
        ended = asyncio.create_task(child.ended())
        try:
            await asyncio.wait(
                {ready, ended}, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                raise StartError(_why(child, ended.result()))
            if not ready.done():
                raise StartError(f"{child.name} was not ready within {START_TIMEOUT:g} s")
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
            pause = backoff.after(loop.time() - started)
            self._console.say(
                f"{child.name} ended with {describe_exit(code)}; restarting in {pause:g} s"
            )
            await asyncio.sleep(pause)
            try:
                await child.start()
            except OSError as error:  # No memory or no process to be had: later, perhaps.
                self._console.say(f"{child.name} cannot be started: {error.strerror}")


def _why(child: Child, code: int) -> str:
    """Return what a child that could not start had to say.

    A service that cannot start as configured says so in its last line and exits with 2. Anything
    else is a crash, and then all of its output may matter.
    """
    lines = b"".join(child.held).decode(errors="replace").strip().splitlines()
    if code == _REFUSED_TO_START and lines:
        return lines[-1]
    ending = f"{child.name} ended with {describe_exit(code)} before it was ready"
    if child.program.log:
        ending += f"; its log is {child.program.log}"
    return "\n".join([*lines, ending])
