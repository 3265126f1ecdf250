"""``tailrace topology plan`` and ``apply``."""

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator

from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import Change, apply, plan
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings


async def plan_command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Print the changes that ``apply`` would make; return 1 if there are any."""
    async with _jetstream(settings) as jetstream:
        changes = await plan(jetstream, topology(settings, options.version))
    _print(changes)
    return 1 if changes else 0


async def apply_command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Make the changes and print them."""
    async with _jetstream(settings) as jetstream:
        changes = await plan(jetstream, topology(settings, options.version))
        await apply(jetstream, changes)
    _print(changes)
    return 0


@contextlib.asynccontextmanager
async def _jetstream(settings: CommonSettings) -> AsyncIterator[JetStream]:
    client = await connect(settings, "tailrace-topology")
    try:
        yield JetStream(client)
    finally:
        await client.close()


def _print(changes: list[Change]) -> None:
    lines = [line for change in changes for line in change.lines()]
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["no changes"]))
