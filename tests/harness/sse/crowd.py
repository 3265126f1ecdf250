"""A crowd: thousands of SSE clients in a process of their own, so that they cost the test nothing.

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
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

from harness.sse.crowd_members import Target

_TESTS: Final = Path(__file__).parents[2]
# It holds the delay of each event at each client.
_LONGEST_ANSWER: Final = 256 * 1024 * 1024


class Report(NamedTuple):
    """What the clients of a crowd have seen.

    Attributes:
        histories: the ids of all events that a reader has had, and how many readers had just these.
        statuses: how many responses had which status.
        gaps: each time that a reader was without a connection, in seconds.
        resets: how many ``stream:reset`` there were.
    """

    histories: list[tuple[int, list[str]]]
    statuses: dict[int, int]
    gaps: list[float]
    resets: int


class Crowd:
    """The test's end of a crowd."""

    def __init__(self) -> None:
        self._process: Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "harness.sse.crowd_process"),
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdin=PIPE,
            stdout=PIPE,
            limit=_LONGEST_ANSWER,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        await self._process.communicate()

    async def connect(
        self,
        count: int,
        *targets: Target,
        manner: Literal["read", "stall", "drip"] = "read",
        at_once: int = 100,
    ) -> float:
        """Add clients, the targets in turns; returns the seconds until all had a response."""
        return await self._order(
            "connect", count=count, targets=targets, manner=manner, at_once=at_once
        )

    async def reached(self, *event_ids: str) -> float:
        """Wait until every reader has one of some events; returns the seconds that it took."""
        return await self._order("reached", event_ids=event_ids)

    async def finished(self) -> float:
        """Wait until every reader has stopped for good; returns the seconds that it took."""
        return await self._order("finished")

    async def delays(self) -> list[float]:
        """Return how long each event took to each reader since this was last asked, in seconds."""
        delays: list[float] = (await self._ask("delays"))["delays"]
        return delays

    async def report(self) -> Report:
        """Return what all readers have seen."""
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
        assert answer, "the crowd's process has ended"
        return json.loads(answer)
