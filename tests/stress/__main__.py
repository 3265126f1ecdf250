"""Run random executions while workers are killed, frozen and stopped and NATS is restarted.

``PYTHONPATH=tests python -m stress --seconds 60 --seed 7`` starts random workflows, sends random
commands, and injects faults. Then commands and faults stop, and every execution must end within
``--bound`` seconds without help. Finally the invariants of all logs are checked. ``--no-nats``
keeps NATS running, ``--duplicates`` delivers jobs twice.

The seed determines what is drawn, not how processes interleave: a failure may need several runs to
reproduce. The logs of workers stay in the folder that is printed.
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

_MAX_NODES = 14
_LIMITS = ("queue", "cancel_new", "cancel_running")


async def _start(opened: Campaign, mix: Mix, until: float) -> None:
    source = opened.source
    while time.monotonic() < until:
        if source.random() < 0.2:
            await opened.start(source.choice(_LIMITS), {"key": source.randrange(2)})
        else:
            workflow = random_workflow(source, source.randrange(1, _MAX_NODES), mix)
            await opened.start(await opened.store(workflow))
        await asyncio.sleep(source.uniform(0.02, 0.3))


async def _store_limited(opened: Campaign, mix: Mix) -> None:
    """Store workflows with concurrency limits."""
    for limit, on_limit in enumerate(_LIMITS, start=1):
        concurrency = {"limit": limit, "on_limit": on_limit, "key": "input.key"}
        workflow = random_workflow(opened.source, 4, mix, on_limit, concurrency=concurrency)
        await opened.store(workflow)


async def _send_commands(opened: Campaign, until: float) -> None:
    source = opened.source
    while time.monotonic() < until:
        await asyncio.sleep(source.uniform(0.05, 0.4))
        if source.random() < 0.2:
            await opened.emit()
        elif opened.started:
            kind = source.choice(["pause", "resume", "resolve", "resolve", "rerun", "cancel"])
            await opened.command(source.choice(opened.started[-40:]), kind)


async def _inject_faults(opened: Campaign, until: float, *, nats: bool) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(opened.source.uniform(0.3, 2))
        await opened.hurt(nats=nats)


async def _repeat(opened: Campaign, until: float) -> None:
    """Deliver jobs twice, as NATS does after a lost acknowledgement."""
    while time.monotonic() < until:
        await asyncio.sleep(opened.source.uniform(0.02, 0.2))
        if opened.started:
            execution = opened.source.choice(opened.started[-20:])
            await opened.insist(functools.partial(opened.jobs.advance, TENANT, execution))


async def stress(arguments: argparse.Namespace, folder: Path) -> str:
    """Run the campaign; returns a summary."""
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
                _send_commands(opened, until),
                _inject_faults(opened, until, nats=not arguments.no_nats),
                *([_repeat(opened, until)] if arguments.duplicates else []),
            )
            faults_ended = time.monotonic()
            records = await opened.settled(arguments.bound)
            last = time.monotonic() - faults_ended
            statuses = await opened.check(records)
            return (
                f"{len(records)} executions {dict(statuses)}, the last {last:.1f} s after the end; "
                f"faults {dict(opened.faults)}; commands {dict(opened.accepted)}"
            )


def arguments_of(line: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, by default that of the process."""
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
    """Run the campaign and print its summary."""
    arguments = arguments_of()
    folder = Path(tempfile.mkdtemp(prefix="stress-"))
    sys.stdout.write(f"seed {arguments.seed}, {folder}\n")
    sys.stdout.write(asyncio.run(stress(arguments, folder)) + "\n")


if __name__ == "__main__":
    main()
