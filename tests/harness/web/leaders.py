"""Measure how soon another tab leads when the leading one is closed, has crashed or is frozen.

    PYTHONPATH=tests python -m harness.web.leaders --rounds 5

Prints the longest time until another tab leads, and how long after it all others show an event that
is written then.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import nats

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import api_replicas
from harness.web.tabs import Tabs, tabs

ENDINGS: Final = ("closed", "crashed", "frozen")
"""The ways in which a leading tab ends."""
_TABS: Final = 4


async def end_leader(opened: Tabs, ending: str) -> float:
    """End the leading tab in one of ``ENDINGS``; return how long it takes until another leads."""
    page = await opened.leader()
    opened.pages.remove(page)
    ends = {"closed": page.close, "crashed": lambda: opened.crash(page)}
    return await opened.take_over(ends.get(ending, lambda: opened.freeze(page)))


async def measure(ending: str, rounds: int) -> tuple[float, float]:
    """Return the longest times until another tab leads, and from then until all show an event."""
    leading = showing = 0.0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(NatsServer(folder))
        (api,) = stack.enter_context(api_replicas(1, server.url, folder))
        client = await nats.connect(server.url)
        log = HandWrittenLog(client)
        await log.begin()
        async with tabs(log.execution, "locks", api.port) as opened:
            for _ in range(rounds):
                while len(opened.pages) < _TABS:
                    await opened.open()
                await opened.all_have(len(log.written))
                leading = max(leading, await end_leader(opened, ending))
                began = time.monotonic()
                await log.step("next")
                await opened.all_have(len(log.written))
                showing = max(showing, time.monotonic() - began)
        await client.close()
    return leading, showing


def main() -> None:
    """Measure each ending and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for ending in ENDINGS:
        leading, showing = asyncio.run(measure(ending, options.rounds))
        sys.stdout.write(
            f"{ending}: the next tab leads after {leading:.2f} s, all go on {showing:.2f} s later\n"
        )


if __name__ == "__main__":
    main()
