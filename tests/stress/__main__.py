"""Random executions on workers that are killed, frozen and stopped, while NATS dies now and then.

``PYTHONPATH=tests python -m stress --seconds 60 --seed 7`` starts random workflows, asks random
things of them, and hurts whoever works on them. Then nothing more is asked or hurt, no job is
sent to help, and every execution must come to its end within ``--bound`` seconds, by itself. At
last every log is judged, alone and beside the others. ``--no-nats`` spares NATS, ``--duplicates``
delivers jobs twice.

The seed decides what is drawn, not how processes interleave: a failure may need several runs to
show again. Logs of workers stay in the folder that is printed.
"""

import argparse
import asyncio
import functools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.campaigns.campaign import MIX, Campaign, campaign
from harness.generators.random_workflows import Mix, random_workflow
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT

_MOST_NODES = 14
_LIMITS = ("queue", "cancel_new", "cancel_running")


async def _start(opened: Campaign, mix: Mix, until: float) -> None:
    source = opened.source
    while time.monotonic() < until:
        if source.random() < 0.2:
            await opened.start(source.choice(_LIMITS), {"key": source.randrange(2)})
        else:
            workflow = random_workflow(source, source.randrange(1, _MOST_NODES), mix)
            await opened.start(await opened.store(workflow))
        await asyncio.sleep(source.uniform(0.02, 0.3))


async def _store_limited(opened: Campaign, mix: Mix) -> None:
    """Store workflows of which only so many executions may run at once."""
    for limit, on_limit in enumerate(_LIMITS, start=1):
        concurrency = {"limit": limit, "on_limit": on_limit, "key": "input.key"}
        workflow = random_workflow(opened.source, 4, mix, on_limit, concurrency=concurrency)
        await opened.store(workflow)


async def _ask(opened: Campaign, until: float) -> None:
    source = opened.source
    while time.monotonic() < until:
        await asyncio.sleep(source.uniform(0.05, 0.4))
        if source.random() < 0.2:
            await opened.emit()
        elif opened.started:
            kind = source.choice(["pause", "resume", "resolve", "resolve", "rerun", "cancel"])
            await opened.command(source.choice(opened.started[-40:]), kind)


async def _hurt(opened: Campaign, until: float, *, nats: bool) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(opened.source.uniform(0.3, 2))
        await opened.hurt(nats=nats)


async def _repeat(opened: Campaign, until: float) -> None:
    """Deliver jobs twice: as NATS may, and as it must when an acknowledgement was lost."""
    while time.monotonic() < until:
        await asyncio.sleep(opened.source.uniform(0.02, 0.2))
        if opened.started:
            execution = opened.source.choice(opened.started[-20:])
            await opened.insist(functools.partial(opened.jobs.advance, TENANT, execution))


async def stress(arguments: argparse.Namespace, folder: Path) -> str:
    """Do all of it; returns what to tell of it."""
    with NatsServer(folder / "nats") as server:
        async with campaign(server, folder, arguments.seed) as opened:
            for _ in range(arguments.workers):
                opened.worker()
            kinds = {**MIX.kinds, **({} if arguments.actors else {"actor": 0})}
            mix = Mix(kinds=kinds, children=MIX.children, slowest=1.5, actors=arguments.actors)
            await _store_limited(opened, mix)
            until = time.monotonic() + arguments.seconds
            await asyncio.gather(
                _start(opened, mix, until),
                _ask(opened, until),
                _hurt(opened, until, nats=not arguments.no_nats),
                *([_repeat(opened, until)] if arguments.duplicates else []),
            )
            healed = time.monotonic()
            records = await opened.settled(arguments.bound)
            last = time.monotonic() - healed
            statuses = await opened.check(records)
            return (
                f"{len(records)} executions {dict(statuses)}, the last {last:.1f} s after the end; "
                f"faults {dict(opened.faults)}; commands {dict(opened.accepted)}"
            )


def arguments_of(line: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; the process's own unless another is given."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m stress")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--bound", type=float, default=90)
    parser.add_argument("--no-nats", action="store_true")
    parser.add_argument("--no-actors", dest="actors", action="store_false")
    parser.add_argument("--duplicates", action="store_true")
    return parser.parse_args(line)


def main() -> None:
    """Stress, and tell how it went."""
    arguments = arguments_of()
    folder = Path(tempfile.mkdtemp(prefix="stress-"))
    sys.stdout.write(f"seed {arguments.seed}, {folder}\n")
    sys.stdout.write(asyncio.run(stress(arguments, folder)) + "\n")


if __name__ == "__main__":
    main()
