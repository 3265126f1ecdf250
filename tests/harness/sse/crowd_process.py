"""The process of a crowd: it reads orders as lines of JSON and answers each once it is done."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from typing import Any, Final

import uvloop

from harness.sse.crowd_members import Dripper, Notes, Reader, Staller, Target

_MEMBERS: Final = {"stall": Staller, "drip": Dripper}


class CrowdProcess:
    """All clients, and the orders that they follow."""

    def __init__(self) -> None:
        self._notes = Notes(heard=self._heard)
        self._readers: list[Reader] = []
        self._others: list[Staller | Dripper] = []
        self._heard_by: Counter[str] = Counter()
        self._awaited: frozenset[str] = frozenset()
        self._all_reached = asyncio.Event()
        self._orders: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "connect": self.connect,
            "reached": self.reached,
            "finished": self.finished,
            "delays": self.delays,
            "report": self.report,
        }

    async def execute(self, order: dict[str, Any]) -> dict[str, Any]:
        """Execute an order; return the answer."""
        began = time.monotonic()
        answer = await self._orders[order.pop("do")](**order)
        return {"seconds": time.monotonic() - began, **answer}

    async def connect(
        self, count: int, targets: list[list[Any]], manner: str, at_once: int
    ) -> dict[str, Any]:
        """Add clients; done when each has a response."""
        wanted = islice(cycle(Target(*target) for target in targets), count)
        gate = asyncio.Semaphore(at_once)

        async def join(member: Reader | Staller | Dripper) -> None:
            async with gate:
                await member.connect()
                await member.connected.wait()

        if manner == "read":
            readers = [Reader(target, self._notes) for target in wanted]
            self._readers += readers
            members: list[Any] = [*readers]
        else:
            members = [_MEMBERS[manner](target) for target in wanted]
            self._others += members
        await asyncio.gather(*map(join, members))
        return {}

    async def reached(self, event_ids: list[str]) -> dict[str, Any]:
        """Wait until each reader has one of the events."""
        self._awaited = frozenset(event_ids)
        self._all_reached.clear()
        self._check()
        await self._all_reached.wait()
        return {}

    def _heard(self, event_id: str) -> None:
        self._heard_by[event_id] += 1
        if event_id in self._awaited:
            self._check()

    def _check(self) -> None:
        if sum(self._heard_by[event_id] for event_id in self._awaited) >= len(self._readers):
            self._all_reached.set()

    async def finished(self) -> dict[str, Any]:
        """Wait until each reader has stopped for good."""
        for reader in self._readers:
            await reader.done.wait()
        return {}

    async def delays(self) -> dict[str, Any]:
        """Return the delays of events at readers since the last call."""
        delays = self._notes.delays.tolist()
        del self._notes.delays[:]
        return {"delays": delays}

    async def report(self) -> dict[str, Any]:
        """Return all observations."""
        notes = self._notes
        histories = Counter(tuple(reader.ids) for reader in self._readers)
        return {
            "histories": [[count, list(ids)] for ids, count in histories.most_common()],
            "statuses": {str(status): count for status, count in notes.statuses.items()},
            "gaps": notes.gaps.tolist(),
            "resets": notes.resets,
        }


async def main() -> None:
    """Execute orders until stdin ends."""
    crowd = CrowdProcess()
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        answer = await crowd.execute(json.loads(order))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Exit, or the test would wait for a client that failed.
    loop.default_exception_handler(context)
    os._exit(1)


if __name__ == "__main__":
    uvloop.run(main())
