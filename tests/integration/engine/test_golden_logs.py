"""Logs as releases wrote them are still understood, and executions still go on from any of them.

``tests/golden/record_logs.py`` records those of a new release.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from harness.campaigns.campaign import Campaign, campaign
from harness.generators.golden_logs import (
    GoldenLog,
    golden_logs,
    prefixes,
    state_values,
    transplanted,
)
from harness.models.log_invariants import violations
from harness.models.log_reading import Record
from harness.models.simulation import Simulation
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT, Installation
from tailrace_shared.commands.execution_commands import Decision
from tailrace_shared.errors import NewerLogError
from tailrace_shared.execution.commits import EVENTS_VERSION
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import awaits_signal, fold
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.fenced_append import VERSION, append
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE
from tailrace_shared.nats.topology import EVENTS

GOLDEN: Final = list(golden_logs())
NEWEST: Final = GOLDEN[-1].release
# What later releases make of the same events for uses of their own.
DERIVED: Final = {"begun_at", "has_sensitive_values", "name"}

each_log = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.title)


@each_log
def test_a_golden_log_folds_to_what_it_did(golden: GoldenLog):
    """Field by field; a field that has come since is derived, or says that it is not set."""
    state = state_values(fold(golden.record.events))
    assert pruned(state, golden.state) == golden.state


def pruned(state: Any, known: Any) -> Any:
    """Return ``state`` without the fields that ``known`` does not have and that say nothing."""
    if isinstance(state, dict) and isinstance(known, dict):
        return {
            key: pruned(value, known.get(key))
            for key, value in state.items()
            if key in known or (key not in DERIVED and value not in (None, "", False, 0, [], {}))
        }
    return state


@each_log
def test_a_golden_log_keeps_every_promise(golden: GoldenLog):
    """A log that was legal once stays legal."""
    assert violations(golden.record) == []


@each_log
def test_a_scheduler_goes_on_from_every_commit_of_a_golden_log(golden: GoldenLog):
    """A crash after each of them, and a world made of chance until the end."""
    for prefix in prefixes(golden.record):
        for seed in range(5):
            world = Simulation(prefix.definition, Random(seed), commits=prefix.commits)
            world.crash()
            world.finish()
            assert violations(world.record) == []


def test_the_newest_golden_logs_use_every_event_and_every_field():
    """A field that no golden log has would be free to change its meaning unnoticed."""
    said: dict[str, set[str]] = {}
    for golden in GOLDEN:
        if golden.release != NEWEST:
            continue
        for event in golden.record.events:
            tag = str(type(event).__struct_config__.tag)
            said.setdefault(tag, set()).update(set_fields(event.data))
    missing = {
        f"{kind.__struct_config__.tag} {field}"
        for kind in Event.__args__
        for field in data_type(kind).__struct_fields__
        if field not in said.get(str(kind.__struct_config__.tag), set())
    }
    assert not missing


def data_type(kind: Any) -> Any:
    """Return the struct of an event's data."""
    (field,) = [field for field in msgspec.structs.fields(kind) if field.name == "data"]
    return field.type


def set_fields(data: Any) -> Iterator[str]:
    """Yield the fields of an event's data that say something."""
    for field in msgspec.structs.fields(type(data)):
        value = getattr(data, field.name)
        if field.required or value not in (None, "", False, 0, [], {}):
            if field.name == "until" and value is None:
                continue
            yield field.name


@pytest.mark.timeout(300)  # real workers, of which some die, from every place of a crash
@pytest.mark.parametrize("release", sorted({golden.release for golden in GOLDEN}))
async def test_workers_go_on_from_every_commit_of_every_golden_log(
    nats_server: NatsServer, tmp_path: Path, release: str
):
    """Real workers finish executions that an earlier release began, from each crash point."""
    of_release = [golden for golden in GOLDEN if golden.release == release]
    async with campaign(nats_server, tmp_path, seed=4) as opened:
        begun: dict[str, str] = {}
        for golden in of_release:
            await opened.store(golden.record.definition)
        for golden in of_release:
            queued = fold(golden.record.events)
            if queued.parent is None and queued.rerun_of is None:
                for prefix in filter(needs_no_message, prefixes(golden.record)):
                    begun[await plant(opened.site, prefix)] = golden.title
        opened.worker()
        opened.worker()
        for execution in begun:
            await opened.jobs.advance(TENANT, execution)
        over = asyncio.Event()
        # Some of the steps are fatal to their workers.
        reviving = asyncio.create_task(opened.revive(over))
        deciding = asyncio.create_task(decide_all(opened, over))
        records = await opened.settled(200)
        over.set()
        await asyncio.gather(reviving, deciding)
        for execution, title in begun.items():
            assert violations(records[execution]) == [], title


def needs_no_message(prefix: Record) -> bool:
    """Tell whether no actor is at work, whose message is in a queue and not in the log."""
    return not any(
        step.is_remote and step.status == "running" for step in fold(prefix.events).steps.values()
    )


async def plant(site: Installation, prefix: Record) -> str:
    """Write the beginning of a log as an execution of its own; return its id."""
    execution, last = new_execution_id(), 0
    version = (await site.workflows.get(TENANT, prefix.definition.id)).version
    for commit in prefix.commits:
        last = await append(
            site.jetstream,
            site.subjects.stream(EVENTS),
            site.subjects.log(TENANT, execution),
            transplanted(commit, execution, version),
            expected=last,
            writer=commit.writer,
        )
    return execution


async def decide_all(opened: Campaign, over: asyncio.Event) -> None:
    """Approve every waiting step, and cancel what was cancelled in its golden log."""
    while not over.is_set():
        for execution, record in (await opened.records()).items():
            state = fold(record.events)
            if record.definition.id in {"cancelled", "stopped"} and not state.is_terminal:
                await opened.command(execution, "cancel")
            for step in state.steps.values():
                if awaits_signal(step):
                    decision = Decision(step.node_id, "approved", {"ok": True})
                    await opened.decide(execution, decision)
        await asyncio.sleep(0.5)


async def test_a_commit_of_a_newer_release_is_refused_and_left_alone(site: Installation):
    """Readers report it; a worker leaves its execution to workers that understand it."""
    golden = next(golden for golden in GOLDEN if golden.name == "failed")
    await site.store(golden.record.definition)
    execution = await plant(site, next(prefixes(golden.record)))
    (only,) = await site.commits(execution)
    await site.jetstream.publish(
        site.subjects.log(TENANT, execution),
        b'[{"type":"step:teleported","data":{},"timestamp":"2030-01-01T00:00:00Z"}]',
        {EXPECTED_LAST_SUBJECT_SEQUENCE: str(only.sequence), VERSION: str(EVENTS_VERSION + 1)},
    )
    with pytest.raises(NewerLogError, match="newer version of Tailrace"):
        await site.log.load_newest(TENANT, execution)
    worker = site.worker()
    await site.enqueue(execution)
    other = await site.start(await site.store(golden.record.definition))
    await site.until(other, lambda events: len(events) > 1)
    assert worker.stop() == 0
    newest = await site.jetstream.get_newest(
        site.subjects.stream(EVENTS), {"last_by_subj": site.subjects.log(TENANT, execution)}
    )
    assert newest is not None
    assert b"teleported" in newest.data
