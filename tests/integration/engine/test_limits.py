"""Workflows of which only so many runs may run at once, across all workers."""

import asyncio
from pathlib import Path
from typing import Any

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, types_of
from harness.processes import polling
from harness.processes.installation import TENANT, Installation
from tailrace_shared.execution.events import TERMINAL, Event, ExecutionStarted
from tailrace_shared.execution.state import fold
from tailrace_shared.nats.topology import CONCURRENCY, EVENTS, LINES

NODES = {"nodes": "feature_functions"}


def until(folder: Path, file: str = "go") -> dict[str, dict[str, Any]]:
    """Return the nodes of a workflow that runs until there is a file."""
    return {"a": {"type": "test.until", "with": {"folder": str(folder), "file": file}}}


async def most_at_once(site: Installation, executions: list[str]) -> int:
    """Return the largest number of executions that ran at once, by the stream's order."""
    steps: list[tuple[int, int]] = []
    for execution in executions:
        for commit in await site.commits(execution):
            for event in commit.events():
                if isinstance(event, ExecutionStarted):
                    steps.append((commit.sequence, 1))
                elif isinstance(event, TERMINAL):
                    # One that starts and ends in one commit runs between the two.
                    steps.append((commit.sequence, -1))
    running = most = 0
    for _sequence, step in sorted(steps, key=lambda each: (each[0], -each[1])):
        running += step
        most = max(most, running)
    return most


async def test_runs_beyond_the_limit_stand_in_line_and_start_in_their_order(
    site: Installation, tmp_path: Path
):
    """Each is queued until one before it has ended."""
    site.worker(**NODES)
    stored = await site.store(definition(until(tmp_path, "${input}"), concurrency={"limit": 1}))
    executions = []
    for number in range(4):
        execution = await site.start(stored, f"go{number}")
        executions.append(execution)
        if number == 0:
            await site.until(execution, begun("a"))
        else:
            await in_line(site, number)
    for number, execution in enumerate(executions):
        await site.until(execution, begun("a"))
        behind = [
            (await site.log.load_newest(TENANT, each)).state for each in executions[number + 1 :]
        ]
        assert {state.status for state in behind} <= {"queued"}
        (tmp_path / f"go{number}").touch()
        await site.finished(execution)
    assert await most_at_once(site, executions) == 1


async def in_line(site: Installation, count: int) -> None:
    """Wait until so many executions stand in lines."""

    async def has_count() -> bool:
        return await stored_in(site, site.subjects.stream(LINES)) == count

    await polling.until(has_count)


async def stored_in(site: Installation, stream: str) -> int:
    """Return the number of messages in a stream."""
    info = await site.jetstream.api(f"STREAM.INFO.{stream}")
    return int(info["state"]["messages"])


async def test_a_new_run_beyond_the_limit_may_be_cancelled(site: Installation, tmp_path: Path):
    """The event has the reason; no step runs."""
    site.worker(**NODES)
    limit = {"limit": 2, "on_limit": "cancel_new"}
    stored = await site.store(definition(until(tmp_path), concurrency=limit))
    running = [await site.start(stored) for _ in range(2)]
    for execution in running:
        await site.until(execution, begun("a"))
    refused = await site.start(stored)
    events = await site.finished(refused)
    assert types_of(events) == ["execution:queued", "execution:cancelled"]
    assert fold(events).error == "2 run already, which is the workflow's limit"
    (tmp_path / "go").touch()
    for execution in running:
        assert fold(await site.finished(execution)).status == "completed"
    await idle_gate(site)
    accepted = await site.start(stored)
    assert fold(await site.finished(accepted)).status == "completed"


async def idle_gate(site: Installation) -> None:
    """Wait until no execution holds a place."""

    async def is_idle() -> bool:
        return not await stored_in(site, f"KV_{site.subjects.stream(CONCURRENCY)}")

    await polling.until(is_idle)


async def test_a_new_run_may_cancel_the_one_that_has_run_longest(
    site: Installation, tmp_path: Path
):
    """It takes the slot when that run has ended."""
    site.worker(**NODES)
    limit = {"limit": 2, "on_limit": "cancel_running"}
    stored = await site.store(definition(until(tmp_path), concurrency=limit))
    executions = []
    for _ in range(3):
        executions.append(await site.start(stored))
        await site.until(executions[-1], begun("a"))
    first = fold(await site.finished(executions[0]))
    assert (first.status, first.error) == ("cancelled", f"overtaken by {executions[2]}")
    (tmp_path / "go").touch()
    for execution in executions[1:]:
        assert fold(await site.finished(execution)).status == "completed"
    assert await most_at_once(site, executions) == 2


def was_let_in(events: list[Event]) -> bool:
    """Tell whether an execution has left the line, even if it was overtaken at once."""
    return begun("a")(events) or isinstance(events[-1], TERMINAL)


async def test_of_runs_that_overtake_each_other_the_last_one_runs(
    site: Installation, tmp_path: Path
):
    """Several that come while the first is being cancelled do not wait for one another."""
    site.worker(**NODES)
    limit = {"limit": 1, "on_limit": "cancel_running"}
    stored = await site.store(definition(until(tmp_path, "${input}"), concurrency=limit))
    executions = [await site.start(stored, "never")]
    await site.until(executions[0], begun("a"))
    executions += [await site.start(stored, "never") for _ in range(3)]
    # Jobs that are in the queue together may be taken up in any order; the last one comes last.
    for execution in executions:
        await site.until(execution, was_let_in)
    (tmp_path / "go").touch()
    last = await site.start(stored, "go")
    events = await site.finished(last)
    assert fold(events).status == "completed"
    for execution in executions:
        assert fold(await site.finished(execution)).status == "cancelled"


async def test_each_key_has_a_limit_of_its_own(site: Installation, tmp_path: Path):
    """One customer's runs do not wait for another's."""
    site.worker(**NODES)
    limit = {"limit": 1, "key": "input.customer"}
    stored = await site.store(definition(until(tmp_path), concurrency=limit))
    julia = await site.start(stored, {"customer": "julia"})
    await site.until(julia, begun("a"))
    second = await site.start(stored, {"customer": "julia"})
    robin = await site.start(stored, {"customer": {"name": "robin"}})
    await site.until(robin, begun("a"))
    await in_line(site, 1)
    assert (await site.log.load_newest(TENANT, second)).state.status == "queued"
    (tmp_path / "go").touch()
    for execution in (julia, robin, second):
        assert fold(await site.finished(execution)).status == "completed"


async def test_a_key_that_cannot_be_evaluated_fails_the_run(site: Installation):
    """The input does not have what the key names."""
    site.worker()
    state = await site.run({"a": {}}, {}, concurrency={"limit": 1, "key": "input.customer"})
    assert state.status == "failed"
    assert (state.error or "").startswith("concurrency.key: ")


async def test_a_run_holds_its_slot_when_its_worker_is_killed(site: Installation, tmp_path: Path):
    """It holds the slot until its end, on any worker; then the next run starts."""
    site.worker(**NODES)
    stored = await site.store(definition(until(tmp_path), concurrency={"limit": 1}))
    first = await site.start(stored)
    await site.until(first, begun("a"))
    second = await site.start(stored)
    await in_line(site, 1)
    (await site.driver(first)).kill()
    site.worker(**NODES)
    await site.until(first, lambda events: types_of(events).count("step:started a") == 2)
    assert (await site.log.load_newest(TENANT, second)).state.status == "queued"
    (tmp_path / "go").touch()
    for execution in (first, second):
        assert fold(await site.finished(execution)).status == "completed"
    assert await most_at_once(site, [first, second]) == 1


async def test_two_hundred_runs_on_two_workers_never_exceed_a_limit_of_two(site: Installation):
    """Each run ends exactly once."""
    for _ in range(2):
        site.worker()
    nodes = {"a": {}, "b": {"needs": ["a"], "with": {"duration": "2ms"}}}
    stored = await site.store(definition(nodes, concurrency={"limit": 2}))
    executions = list(await asyncio.gather(*(site.start(stored) for _ in range(200))))
    for execution in executions:
        events = await site.finished(execution)
        assert types_of(events).count("execution:started") == 1
        assert fold(events).status == "completed"
    assert await most_at_once(site, executions) == 2
    await idle_gate(site)
    await in_line(site, 0)


async def test_a_rerun_that_cannot_start_leaves_its_place_to_the_next(
    site: Installation, tmp_path: Path
):
    """The next execution in the queue starts."""
    site.worker(**NODES)
    stored = await site.store(definition(until(tmp_path, "${input}"), concurrency={"limit": 1}))
    (tmp_path / "now").touch()
    original = await site.start(stored, "now")
    await site.finished(original)
    holder = await site.start(stored, "later")
    await site.until(holder, begun("a"))
    again = await site.starter.rerun(TENANT, original, "a", None)
    await in_line(site, 1)
    last = await site.start(stored, "now")
    await in_line(site, 2)
    subject = site.subjects.log(TENANT, original)
    await site.jetstream.api(f"STREAM.PURGE.{site.subjects.stream(EVENTS)}", {"filter": subject})
    (tmp_path / "later").touch()
    assert fold(await site.finished(again.execution_id)).status == "failed"
    assert fold(await site.finished(last)).status == "completed"


async def test_who_stands_in_line_at_a_busy_worker_is_called_by_an_idle_one(
    site: Installation, tmp_path: Path
):
    """A tenant's share of one worker is no limit to what it may have of another."""
    site.worker(**NODES, worker_threads="4")
    stored = await site.store(definition(until(tmp_path)))
    executions = [await site.start(stored) for _ in range(5)]
    await in_line(site, 2)
    site.worker(**NODES, worker_threads="4")
    for execution in executions:
        await site.until(execution, begun("a"))
    (tmp_path / "go").touch()
    for execution in executions:
        await site.finished(execution)


async def test_who_stands_in_line_outlives_the_worker_that_had_no_room(
    site: Installation, tmp_path: Path
):
    """The next one learns of the line, and does not leave it to the sweeper, which is patient."""
    first = site.worker(**NODES, worker_threads="4")
    stored = await site.store(definition(until(tmp_path)))
    executions = [await site.start(stored) for _ in range(5)]
    await in_line(site, 2)
    first.kill()
    (tmp_path / "go").touch()
    site.worker(**NODES, worker_threads="4")
    for execution in executions:
        await site.finished(execution, timeout=60)
    await in_line(site, 0)


async def test_a_run_does_not_wait_for_the_place_of_its_own_ancestor(site: Installation):
    """It would wait for ever: the ancestor waits for it, and holds the only place."""
    site.worker()
    again = {"id": "test", "input": {"n": "${input.n - 1}"}}
    nodes = {"a": {"type": "workflow", "with": again, "when": "input.n > 0"}}
    stored = await site.store(definition(nodes, concurrency={"limit": 1}))
    execution = await site.start(stored, {"n": 2})
    assert fold(await site.finished(execution)).status == "completed"
    await idle_gate(site)
    await in_line(site, 0)
