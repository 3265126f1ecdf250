"""A tenant with a long backlog delays neither other tenants nor its own commands."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import types_of
from harness.nats.current_reads import current_messages
from harness.processes.installation import TENANT, Installation
from tailrace_shared.execution.state import fold
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.nats.topology import LINES
from tailrace_shared.stores.workflow_store import StoredWorkflow

BACKLOG = 6_000
OTHER = "other"


@pytest.fixture(autouse=True)
def node_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the node functions beside this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


async def queued(site: Installation) -> list[str]:
    """Return the executions that wait in the queues of tenants, in their order."""
    stream = site.subjects.stream(LINES)
    subject = f"{site.subjects.prefix}.line.>"
    return [
        message.subject.rpartition(".")[2]
        for message in await current_messages(site.jetstream, stream, subject)
    ]


async def publish_backlog(site: Installation) -> list[str]:
    """Publish a job for each of many executions of a tenant; returns their ids, in order."""
    executions = [new_execution_id() for _ in range(BACKLOG)]
    subject = site.subjects.job(EXECUTIONS_QUEUE)
    for start in range(0, BACKLOG, 500):
        jobs = [advance_job(OTHER, each) for each in executions[start : start + 500]]
        await asyncio.gather(*(site.jetstream.publish(subject, job) for job in jobs))
    return executions


@pytest.mark.timeout(240)
async def test_a_backlog_of_one_tenant_delays_no_other_and_keeps_its_order(
    site: Installation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):
    """Jobs beyond the tenant's share leave the work queue without a thread of Dramatiq."""
    noted = tmp_path / "noted"
    monkeypatch.setenv("JOBS_NOTED", str(noted))
    stored = await site.store(definition({"x": {"type": "test.blocked"}}))
    version = await site.workflows.put(OTHER, stored.definition)
    stored = StoredWorkflow(stored.definition, version)
    slow = [new_execution_id() for _ in range(8)]
    for execution in slow:
        await site.log.create(OTHER, execution, stored, None)
        await site.jobs.advance(OTHER, execution)
    backlog = await publish_backlog(site)
    quick = await site.begin({"x": {}}, id="quick")
    site.worker(nodes="noting_functions", worker_threads="8")
    ready = time.monotonic()
    await site.finished(quick)
    # 19 s while each job of the backlog passed through a thread; it depends on the machine.
    elapsed = time.monotonic() - ready
    record_property("seconds until the other tenant's run had ended", round(elapsed, 2))
    # The share of one tenant is six of eight slots.
    assert set(noted.read_text().split()) == {*slow[:6], quick}
    waiting = await queued(site)
    assert waiting == [*slow[6:], *backlog]


async def test_a_command_does_not_wait_for_the_backlog_of_its_tenant(
    site: Installation, tmp_path: Path
):
    """All slots of the tenant are taken, and its queue is long."""
    blocked = {"x": {"type": "test.until", "with": {"folder": str(tmp_path)}}}
    stored = await site.store(definition(blocked))
    site.worker(nodes="feature_functions", worker_threads="8")
    executions = [await site.start(stored) for _ in range(20)]
    for execution in executions[:6]:
        await site.until(execution, lambda events: "execution:started" in types_of(events))
    await site.commander.cancel(TENANT, executions[-1], "enough")
    state = fold(await site.finished(executions[-1]))
    assert state.status == "cancelled"
    assert executions[6] in await queued(site)
