"""Add the rows of executions that version 0.2, which writes none, has started or ended.

Their ids sort by time, so the sorted keys of the run index and of the live index are their order.
The rows of their ends follow the run index, which has been written in that order.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import creation_time
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import LIVE, RUNS
from tailrace_shared.stores.indexes.run_index import RunIndex, start_of
from tailrace_shared.stores.indexes.start_index import (
    ENDED,
    STARTED,
    Start,
    StartIndex,
    is_of_tag,
    kind_of_tag,
)
from tailrace_shared.subjects import Subjects

_AT_ONCE: Final = 500

_Run = tuple[str, str, str]


async def backfill_starts(
    jetstream: JetStream, subjects: Subjects, report: Callable[[int, int], None]
) -> int:
    """Add the missing rows; return how many of starts. It may be repeated.

    Args:
        jetstream: the connection.
        subjects: the names of the installation.
        report: called with the number of rows added so far, and of all that are missing.

    Raises:
        UnavailableError: NATS did not answer; the rows before are added.
    """
    starts = StartIndex(jetstream, subjects)
    runs = {run for name in (RUNS, LIVE) for run in await _keys(jetstream, subjects.stream(name))}
    first_id = ""
    ended: set[tuple[str, str]] = set()
    tagged: set[tuple[str, str, str]] = set()
    async for row in starts.oldest_first(1):
        execution = row.start.execution_id
        if row.position.kind in ENDED:
            ended.add((row.tenant, execution))
            continue
        if is_of_tag(row.position.kind):
            tagged.add((row.tenant, execution, row.position.kind))
            continue
        runs.discard((execution, row.tenant, row.workflow))
        if row.position.kind == STARTED and not first_id:
            first_id = execution
    missing = sorted(runs)
    added = 0
    while some := missing[added : added + _AT_ONCE]:
        # In the order of the ids: NATS stores the messages of one connection as they are sent.
        await asyncio.gather(*(_add(starts, run, first_id) for run in some))
        added += len(some)
        report(added, len(missing))
    await _add_ends(starts, RunIndex(jetstream, subjects), ended)
    await _add_tags(starts, RunIndex(jetstream, subjects), tagged)
    return added


async def _add_ends(starts: StartIndex, runs: RunIndex, known: set[tuple[str, str]]) -> None:
    async for tenant, run, _revision, _written_at in runs.oldest_first():
        if run.status in ENDED and (tenant, run.execution_id) not in known:
            await starts.add_end(tenant, run.workflow_id, start_of(run), run.status)


async def _add_tags(starts: StartIndex, runs: RunIndex, known: set[tuple[str, str, str]]) -> None:
    """Add the rows of tags that are missing, which they are after the index was rebuilt."""
    missing: list[tuple[str, str, str, Start, str]] = []
    async for tenant, run, _revision, _written_at in runs.oldest_first():
        missing += [
            (run.execution_id, tenant, run.workflow_id, start_of(run), tag)
            for tag in run.tags
            if (tenant, run.execution_id, kind_of_tag(tag)) not in known
        ]
    for _execution, tenant, workflow, start, tag in sorted(missing, key=lambda each: each[0]):
        await starts.add_tag(tenant, workflow, start, tag)


async def _add(starts: StartIndex, run: _Run, first_id: str) -> None:
    execution, tenant, workflow = run
    # What was started by version 0.2 after the first row is not older than all rows.
    is_older = not first_id or execution < first_id
    created = creation_time(execution)
    created_at = None if created is None else format_timestamp(created)
    start = Start(execution, created_at=created_at)
    await starts.add(tenant, workflow, start, is_backfilled=is_older)


async def _keys(jetstream: JetStream, bucket: str) -> Iterable[_Run]:
    stream, prefix = f"KV_{bucket}", f"$KV.{bucket}."
    found: list[_Run] = []
    offset = 0
    while True:
        body = {"subjects_filter": f"{prefix}*.*.*", "offset": offset}
        info = await jetstream.api(f"STREAM.INFO.{stream}", body)
        page = info["state"].get("subjects") or {}
        for subject in page:
            tenant, workflow, execution = subject.removeprefix(prefix).split(".")
            found.append((execution, tenant, workflow))
        offset += len(page)
        if not page or offset >= info.get("total", 0):
            return found
