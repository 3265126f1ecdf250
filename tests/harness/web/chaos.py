"""Tabs follow a run while API replicas are killed, connections cut, and tabs opened and closed.

    PYTHONPATH=tests python -m harness.web.chaos --seconds 600 --seed 7

At each look a tab has every event of the log once, in order: its rolling hash is that of the log.
The seed determines the actions, not how processes interleave.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import nats
from playwright.async_api import Page

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas
from harness.web.tabs import Tabs, rolled_hash, tabs

_DOUBLED: Final = "ids.length - new Set(ids.map(([, id]) => id)).size"
_MAX_TABS: Final = 8
_MAX_STEPS: Final = 4
_PAUSE_S: Final = 0.3
"""The longest pause between two actions."""
_MAX_EVENTS: Final = 18_000
"""A tab keeps no more events."""
FAULTS: Final = ("cuts", "tabs killed", "replicas killed")
"""The faults that each campaign has at least once."""
_SETTINGS: Final = {"heartbeat": "300ms", "retry": "20ms"}


class Chaos:
    """A log, the tabs that follow it, and what is done to them.

    Attributes:
        done: the number of actions, by kind.
        looks: how often a tab was compared with the log.
        sharing: how the tabs shared their streams: ``worker`` or ``locks``.
        problems: a sentence for each tab that had not the events of the log.
    """

    def __init__(
        self, log: HandWrittenLog, opened: Tabs, replicas: list[ApiProcess], source: Random
    ) -> None:
        self.log = log
        self.done: Counter[str] = Counter()
        self.looks = 0
        self.problems: list[str] = []
        self.sharing: set[str] = set()
        self._tabs = opened
        self._replicas = replicas
        self._source = source
        self._texts: list[str] = ["execution:queued \n", "execution:started \n"]

    @property
    def events(self) -> int:
        """The number of events that each tab must have."""
        return len(self._texts)

    async def run(self, seconds: float) -> None:
        """Act for some seconds, then do each fault that is left; look at all tabs at the end."""
        until = time.monotonic() + seconds
        await self._tabs.open()
        actions = (
            *(self._open, self._close, self._crash, self._cut),
            *(self._kill, self._stop, self._look),
        )
        weights = (5, 3, 2, 4, 1, 1, 2)
        while time.monotonic() < until:
            await self._write()
            (action,) = self._source.choices(actions, weights)
            await action()
            await asyncio.sleep(self._source.uniform(0, _PAUSE_S))
        for kind, act in zip(FAULTS, (self._cut, self._crash, self._kill), strict=True):
            if not self.done[kind]:
                await self._open()
                await act()
        await self._write()
        while self._tabs.pages:
            await self._close(least=0)

    async def _write(self) -> None:
        for _ in range(self._source.randint(1, _MAX_STEPS)):
            if len(self._texts) >= _MAX_EVENTS:
                return
            node = f"n{len(self._texts)}"
            await self.log.step(node)
            self._texts += [f"step:started {node}\n", f"step:completed {node}\n"]

    async def _open(self) -> None:
        if len(self._tabs.pages) < _MAX_TABS:
            await self._tabs.open()
            self.done["tabs opened"] += 1

    async def _close(self, least: int = 1) -> None:
        if len(self._tabs.pages) <= least:
            return
        await self._look(page := self._source.choice(self._tabs.pages))
        self._tabs.pages.remove(page)
        await page.close()
        self.done["tabs closed"] += 1

    async def _crash(self) -> None:
        if len(self._tabs.pages) < 2:
            return
        page = self._source.choice(self._tabs.pages)
        self._tabs.pages.remove(page)
        await self._tabs.crash(page)
        await page.close()
        self.done["tabs killed"] += 1

    async def _cut(self) -> None:
        self._tabs.gateway.cut_all()
        self.done["cuts"] += 1

    async def _kill(self) -> None:
        replica = self._source.choice(self._replicas)
        await asyncio.to_thread(replica.kill)
        await self._write()
        await asyncio.to_thread(replica.start)
        self.done["replicas killed"] += 1

    async def _stop(self) -> None:
        replica = self._source.choice(self._replicas)
        await asyncio.to_thread(replica.stop)
        await asyncio.to_thread(replica.start)
        self.done["replicas replaced"] += 1

    async def _look(self, page: Page | None = None) -> None:
        page = page or self._source.choice(self._tabs.pages)
        expected = len(self._texts)
        count, rolled = await self._tabs.summary(page, expected)
        self.looks += 1
        self.sharing.add(await page.evaluate("client.connection.get().sharing"))
        if (count, rolled) != (expected, rolled_hash(self._texts)):
            has = f"a tab has {count} of {expected} events with the hash {rolled:08x}"
            self.problems.append(f"{has}, {await page.evaluate(_DOUBLED)} of them doubled")


async def chaos(seconds: float, seed: int, sharing: str) -> Chaos:
    """Start everything, and act for some seconds."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(NatsServer(folder))
        replicas = stack.enter_context(api_replicas(2, server.url, folder, **_SETTINGS))
        client = await nats.connect(server.url)
        log = HandWrittenLog(client)
        await log.begin()
        ports = [replica.port for replica in replicas]
        async with tabs(log.execution, sharing, *ports) as opened:
            campaign = Chaos(log, opened, replicas, Random(seed))
            await campaign.run(seconds)
        await client.close()
    return campaign


def main() -> int:
    """Run as long as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sharing", choices=("auto", "worker", "locks"), default="auto")
    options = parser.parse_args()
    campaign = asyncio.run(chaos(options.seconds, options.seed, options.sharing))
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(campaign.done.items()))
    result = "\n".join(campaign.problems) or "missing 0, doubled 0"
    sys.stdout.write(
        f"{len(campaign.log.written)} events, {campaign.looks} looks, {done}\n{result}\n"
    )
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
