"""Run random executions while workers are killed, frozen and stopped and NATS is restarted.

``PYTHONPATH=tests python -m stress --seconds 60 --seed 7`` starts random workflows, sends random
commands, and injects faults. Then commands and faults stop, and every execution must end within
``--bound`` seconds without help. Finally the invariants of all logs are checked. ``--no-nats``
keeps NATS running, ``--duplicates`` delivers jobs twice.

The seed determines what is drawn, not how processes interleave: a failure may need several runs to
reproduce. The logs of workers stay in the folder that is printed.

``--fault KIND`` runs a campaign on a cluster of three NATS nodes instead (see `fault_campaign.py`):
``--executions`` executions start over ``--seconds`` seconds on two API replicas and two workers,
``--clients`` SSE clients are cut all the time, and one fault happens in the middle. ``--fault all``
runs a round of each kind. It needs root, because it makes namespaces and mounts. On a slow machine,
``/readyz`` may change up to ``--slack`` seconds later than the services promise.
"""

import argparse
import asyncio
import contextlib
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.campaigns.campaign import MIX, Campaign, campaign
from harness.faults.sandbox import sandboxed
from harness.generators.random_workflows import Mix, random_workflow
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT
from stress.fault_campaign import Size, problems_of, run_rounds
from stress.fault_kinds import KINDS

_MAX_NODES = 14
_PASSED = "passed"
"""The file in which a sandbox notes the kinds of faults that have passed."""
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
    """Run the campaign; return a summary."""
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
    parser.add_argument("--slack", type=float, default=2)
    parser.add_argument("--no-nats", action="store_true")
    parser.add_argument("--no-actors", dest="actors", action="store_false")
    parser.add_argument("--duplicates", action="store_true")
    parser.add_argument("--fault", action="append", choices=["all", *KINDS], default=[])
    parser.add_argument("--executions", type=int, default=200)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--feeds", type=float, default=0.2, help="share of clients of the feed")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(line)


def run_fault_campaigns(arguments: argparse.Namespace, folder: Path) -> int:
    """Run a round of each kind of fault in sandboxes; return the number of failed rounds.

    Rounds share a cluster until one fails; the rest continue on a new one.
    """
    kinds = list(KINDS) if "all" in arguments.fault else list(arguments.fault)
    failed = 0
    options = [
        *("--seed", str(arguments.seed)),
        *("--seconds", str(arguments.seconds)),
        *("--bound", str(arguments.bound)),
        *("--slack", str(arguments.slack)),
        *("--executions", str(arguments.executions)),
        *("--clients", str(arguments.clients)),
        *("--feeds", str(arguments.feeds)),
    ]
    while kinds:
        inside = folder / f"sandbox-{failed}"
        inside.mkdir()
        (inside / _PASSED).touch()
        faults = [option for kind in kinds for option in ("--fault", kind)]
        command = [sys.executable, "-m", "stress", *options, *faults, "--inside", str(inside)]
        ended = subprocess.run(sandboxed(command), check=False)
        if not ended.returncode:
            break
        failed += 1
        passed = len((inside / _PASSED).read_text().splitlines())
        kinds = kinds[passed + 1 :]
    return failed


async def _run_inside(arguments: argparse.Namespace, passed: TextIO) -> int:
    """Run rounds in this sandbox until one fails; return the exit code.

    Args:
        arguments: the command line.
        passed: where to note the kinds of faults that have passed.
    """
    size = Size(
        arguments.executions,
        arguments.clients,
        arguments.feeds,
        arguments.seconds,
        arguments.bound,
        arguments.slack,
    )
    kinds = iter(arguments.fault)
    rounds = run_rounds(arguments.inside, arguments.fault, arguments.seed, size)
    try:
        async with contextlib.aclosing(rounds):
            async for summary in rounds:
                sys.stdout.write(f"{summary}\n")
                sys.stdout.flush()
                passed.write(f"{next(kinds)}\n")
    except Exception as error:  # noqa: BLE001 - every failure is a result
        problems = "\n".join(problems_of(error))
        sys.stdout.write(f"{next(kinds)}: FAILED, see {arguments.inside}\n{problems}\n")
        return 1
    return 0


def main() -> int:
    """Run the campaign and print its summary; return the exit code."""
    arguments = arguments_of()
    if arguments.inside:
        with (arguments.inside / _PASSED).open("w") as passed:
            return asyncio.run(_run_inside(arguments, passed))
    folder = Path(tempfile.mkdtemp(prefix="stress-"))
    sys.stdout.write(f"seed {arguments.seed}, {folder}\n")
    sys.stdout.flush()
    if arguments.fault:
        return run_fault_campaigns(arguments, folder)
    sys.stdout.write(asyncio.run(stress(arguments, folder)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
