"""Thousands of SSE clients in a separate process, so that they do not slow down the test.

async with Crowd() as crowd:
    await crowd.connect(2000, Target(port, path))
    await crowd.reached(event_id)
    report = await crowd.report()
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from harness.sse.crowd_members import Target

_TESTS: Final = Path(__file__).parents[2]
# An answer contains the delay of each event at each client.
_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class Report(NamedTuple):
    """The observations of all clients of a crowd.

    Attributes:
        histories: each sequence of event ids, with the number of readers that received it.
        statuses: number of responses by status.
        gaps: the times that readers were without a connection, in seconds.
        resets: number of ``stream:reset`` events.
    """

    histories: list[tuple[int, list[str]]]
    statuses: dict[int, int]
    gaps: list[float]
    resets: int


class Crowd:
    """The crowd, as the test controls it."""

    def __init__(self) -> None:
        self._process: Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "harness.sse.crowd_process"),
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdin=PIPE,
            stdout=PIPE,
            limit=_MAX_ANSWER_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.communicate()

    async def connect(
        self,
        count: int,
        *targets: Target,
        manner: Literal["read", "stall", "drip"] = "read",
        at_once: int = 100,
    ) -> float:
        """Add clients, targets in turns; return the seconds until all have a response."""
        return await self._order(
            "connect", count=count, targets=targets, manner=manner, at_once=at_once
        )

    async def reached(self, *event_ids: str) -> float:
        """Wait until each reader has one of the events; return the seconds waited."""
        return await self._order("reached", event_ids=event_ids)

    async def finished(self) -> float:
        """Wait until each reader has stopped for good; return the seconds waited."""
        return await self._order("finished")

    async def delays(self) -> list[float]:
        """Return the delays of events at readers since the last call, in seconds."""
        delays: list[float] = (await self._ask("delays"))["delays"]
        return delays

    async def report(self) -> Report:
        """Return the observations of all readers."""
        answer = await self._ask("report")
        return Report(
            [(count, ids) for count, ids in answer["histories"]],
            {int(status): count for status, count in answer["statuses"].items()},
            answer["gaps"],
            answer["resets"],
        )

    async def _order(self, order: str, **details: Any) -> float:
        return float((await self._ask(order, **details))["seconds"])

    async def _ask(self, order: str, **details: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": order, **details}).encode() + b"\n")
        answer = await self._process.stdout.readline()
        assert answer, "the process of the crowd has ended"
        return json.loads(answer)
