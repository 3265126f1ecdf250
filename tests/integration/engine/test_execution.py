"""A worker process executes workflows, and logs what happens, node by node."""

from pathlib import Path
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.processes.installation import Installation
from tailrace_shared.execution.events import (
    Event,
    ExecutionCancelled,
    StepCompleted,
    StepEvent,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepStarted,
    StepWaiting,
)
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.topology import RUNS

NODES = {"nodes": "node_functions"}


async def run(
    site: Installation, nodes: dict[str, Any], run_input: Any = None, **fields: Any
) -> list[Event]:
    """Run a workflow to its end; return its log."""
    stored = await site.store(definition(nodes, **fields))
    return await site.finished(await site.start(stored, run_input))


def of(events: list[Event], kind: type, node: str) -> list[Any]:
    """Return the data of a node's events of one kind."""
    return [
        event.data
        for event in events
        if isinstance(event, kind) and isinstance(event, StepEvent) and event.data.node_id == node
    ]


async def test_outputs_flow_through_expressions(site: Installation):
    """The next node's `with` sees the output of the node before."""
    site.worker()
    events = await run(
        site,
        {
            "a": {"type": "transform", "with": {"value": {"n": "${input.n}", "t": "n=${input.n}"}}},
            "b": {
                "needs": ["a"],
                "type": "transform",
                "with": {"value": "${nodes.a.output.n + 1}"},
            },
        },
        {"n": 41},
        output={"answer": "${nodes.b.output}", "text": "${nodes.a.output.t}"},
    )
    assert fold(events).output == {"answer": 42, "text": "n=41"}


async def test_functions_run_on_the_loop_or_in_threads_by_their_kind(site: Installation):
    """A synchronous function must not hold the event loop."""
    site.worker(**NODES)
    events = await run(site, {"a": {"type": "test.sync", "with": {"value": [1, "x"]}}})
    (done,) = of(events, StepCompleted, "a")
    assert done.output["value"] == [1, "x"]
    assert done.output["thread"].startswith("node")


async def test_a_failing_step_is_retried_with_growing_delays(site: Installation):
    """Every attempt but the last ends in `step:retrying`, with the time of the next."""
    site.worker(**NODES)
    retry = {"max_attempts": 4, "initial": "20ms", "factor": 3, "jitter": False}
    events = await run(site, {"a": {"type": "test.flaky", "with": {"fails": 3}, "retry": retry}})
    (done,) = of(events, StepCompleted, "a")
    assert (done.output, done.attempt) == (4, 4)
    retries = [event for event in events if isinstance(event, StepRetrying)]
    delays = [parse_timestamp(e.data.retry_at) - parse_timestamp(e.timestamp) for e in retries]
    assert delays == pytest.approx([0.02, 0.06, 0.18], abs=0.002)
    assert [e.data.error for e in retries] == [f"attempt {n} fails" for n in (1, 2, 3)]


async def test_a_step_fails_when_its_attempts_are_used_up(site: Installation):
    """The last error is the step's, and the execution's."""
    site.worker(**NODES)
    retry = {"max_attempts": 2, "initial": "1ms"}
    events = await run(site, {"a": {"type": "test.flaky", "with": {"fails": 9}, "retry": retry}})
    (end,) = of(events, StepFailed, "a")
    assert (end.attempt, end.error) == (2, "attempt 2 fails")
    assert fold(events).error == "a: attempt 2 fails"


@pytest.mark.parametrize("slow", ["simulate", "test.blocking"])
async def test_an_attempt_ends_with_its_timeout(site: Installation, slow: str, tmp_path: Path):
    """A coroutine is interrupted; a thread can observe it, and its result is not awaited."""
    site.worker(**NODES)
    parameters = {"duration": "1m"} if slow == "simulate" else {"folder": str(tmp_path)}
    events = await run(site, {"a": {"type": slow, "with": parameters, "timeout": "50ms"}})
    (end,) = of(events, StepFailed, "a")
    assert end.error == "timed out after 50ms"


async def test_progress_is_coalesced_and_the_last_report_is_recorded(site: Installation):
    """However fast a node reports, its log grows by five commits a second at most."""
    site.worker(**NODES)
    events = await run(site, {"a": {"type": "test.chatty", "with": {"seconds": 1.1}}})
    reports = [event for event in events if isinstance(event, StepProgressed)]
    times = [parse_timestamp(event.timestamp) for event in reports]
    # The last word comes with the end, whenever that is.
    assert len(reports) <= 5 * (times[-1] - times[0]) + 2
    (line,) = of(events, StepLogged, "a")
    assert line.fields["reports"] > len(reports)
    assert reports[-1].data.fields["reports"] == line.fields["reports"] - 1


async def test_a_node_cannot_end_the_worker(site: Installation):
    """sys.exit() in a node fails its step; the worker goes on."""
    worker = site.worker(**NODES)
    events = await run(site, {"a": {"type": "test.exit"}})
    (end,) = of(events, StepFailed, "a")
    assert end.error == "SystemExit: 3"
    assert fold(await run(site, {"a": {}})).status == "completed"
    assert worker.stop() == 0


async def test_a_step_that_kills_its_workers_fails(site: Installation):
    """Each crash costs a worker; the limit keeps one step from killing all of them."""
    for _ in range(3):
        site.worker(**NODES, max_crashes="2", ack_wait="1s")
    stored = await site.store(definition({"a": {"type": "test.kill"}, "b": {}}))
    execution = await site.start(stored)
    events = await site.finished(execution)
    (end,) = of(events, StepFailed, "a")
    assert end.error == "its worker was lost 2 times while it ran"
    assert [data.cause for data in of(events, StepRetrying, "a")] == ["crash"]


async def test_a_short_delay_and_a_long_one_end_after_their_time(site: Installation):
    """A delay beyond two seconds is a schedule in NATS: it outlives the worker that began it."""
    first = site.worker()
    stored = await site.store(
        definition(
            {
                "short": {"type": "delay", "with": {"duration": "300ms"}},
                "long": {"type": "delay", "with": {"duration": "4s"}, "needs": ["short"]},
            }
        )
    )
    execution = await site.start(stored)
    await site.until(execution, lambda events: bool(of(events, StepWaiting, "long")))
    first.stop()
    site.worker()
    events = await site.finished(execution)
    (short,), (long,) = of(events, StepCompleted, "short"), of(events, StepCompleted, "long")
    assert short.duration_ms >= 299
    assert long.duration_ms >= 3999


async def test_cancel_interrupts_what_runs_and_ends_the_execution(
    site: Installation, tmp_path: Path
):
    """Both can observe it and get time to end; one that does not is interrupted."""
    site.worker(**NODES, cancel_grace="5s")
    stored = await site.store(
        definition(
            {
                "loop": {"type": "test.effect", "with": {"folder": str(tmp_path), "seconds": 60}},
                "thread": {"type": "test.blocking", "with": {"folder": str(tmp_path)}},
                "after": {"needs": ["loop", "thread"], "join": "any"},
            }
        )
    )
    execution = await site.start(stored)
    await site.until(execution, lambda events: len(started(events)) == 2)
    await site.commander.cancel("default", execution, "not wanted")
    await site.enqueue(execution)
    events = await site.finished(execution)
    assert isinstance(events[-1], ExecutionCancelled)
    assert events[-1].data.reason == "not wanted"
    assert "after" not in started(events)
    state = fold(events)
    assert state.steps["loop"].status == "cancelled"
    # It observed the cancellation, and had time to end by itself.
    assert state.steps["thread"].status == "success"


def started(events: list[Event]) -> set[str]:
    """Return the nodes that have started."""
    return {event.data.node_id for event in events if isinstance(event, StepStarted)}


async def test_a_wide_workflow_of_instant_nodes_is_committed_in_portions(site: Installation):
    """Five hundred nodes side by side and a join: every commit small, every node once."""
    site.worker()
    wide: dict[str, Any] = {
        f"n{i}": {"type": "transform", "with": {"value": "x" * 1000}} for i in range(500)
    }
    join = {"type": "transform", "with": {"value": 1}, "needs": list(wide)}
    stored = await site.store(definition({**wide, "join": join}))
    execution = await site.start(stored)
    events = await site.finished(execution)
    assert len(of(events, StepCompleted, "join")) == 1
    assert max(len(commit.payload) for commit in await site.commits(execution)) < 512 * 1024
    state = ExecutionState()
    for event in events:
        state.apply(event)


async def test_an_output_beyond_the_limit_fails_the_step_with_both_numbers(site: Installation):
    """The error says how large the output is and how large it may be."""
    site.worker(max_output_bytes="262144")
    events = await run(
        site,
        {
            "a": {"type": "transform", "with": {"value": "x" * 200_000}},
            "b": {
                "needs": ["a"],
                "type": "transform",
                "with": {"value": ["${nodes.a.output}", "${nodes.a.output}"]},
            },
        },
    )
    (end,) = of(events, StepFailed, "b")
    assert (
        end.error == "the output is 400007 bytes; the limit is 262144 (TAILRACE_MAX_OUTPUT_BYTES)"
    )


async def test_a_step_that_this_worker_cannot_run_goes_to_one_that_can(site: Installation):
    """In a rolling deployment some workers do not know a node type yet."""
    old = site.worker()
    stored = await site.store(definition({"a": {"type": "test.sync", "with": {"value": 1}}}))
    execution = await site.start(stored)
    await site.until(execution, lambda events: bool(of(events, StepRetrying, "a")))
    # A run that waits is listed as running, although it holds no worker.
    await site.until_read(
        [f"$KV.{site.subjects.stream(RUNS)}.>"],
        lambda: site.stores.run_list.page("default"),
        lambda page: [run.status for run in page.runs] == ["running"],
        60,
    )
    old.stop()
    assert (await site.stores.run_list.page("default")).runs[0].status == "running"
    site.worker(**NODES)
    events = await site.finished(execution)
    assert fold(events).status == "completed"
    assert of(events, StepRetrying, "a")[0].error == "this worker has no node type 'test.sync'"
    assert fold(events).steps["a"].failures == 0
