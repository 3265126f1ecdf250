"""``tailrace topology plan`` and ``apply``."""

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import Change, apply, check_possible, plan
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.start_backfill import backfill_starts
from tailrace_shared.subjects import Subjects

_REPORT_EVERY: Final = 50_000


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
        created = [change for change in changes if change.config is None]
        updated = [change for change in changes if change.config is not None]
        check_possible(updated)
        await apply(jetstream, created)
        if options.version > 1:
            # Before EVENTS records the version: from then on lists rely on the rows.
            await backfill_starts(jetstream, Subjects(settings.prefix), _report)
        await apply(jetstream, updated)
    _print(changes)
    return 0


def _report(added: int, missing: int) -> None:
    if added % _REPORT_EVERY == 0 or added == missing:
        sys.stderr.write(f"added {added} of {missing} runs to the start index\n")


@contextlib.asynccontextmanager
async def _jetstream(settings: CommonSettings) -> AsyncIterator[JetStream]:
    client = await connect(
        settings, "tailrace-topology", inbox_prefix=Subjects(settings.prefix).inboxes("admin")
    )
    try:
        yield JetStream(client)
    finally:
        await client.close()


def _print(changes: list[Change]) -> None:
    lines = [line for change in changes for line in change.lines()]
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["no changes"]))
