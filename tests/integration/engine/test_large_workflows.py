"""Traces of thousands of tasks, and joins of more than a thousand: work grows with their size.

What grows is counted in lines, which are the same on every machine. Runs over NATS are timed only
to be shown: nodes, edges, the width of the last join and what each of nodes and edges cost;
``pytest -rP`` prints that table.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from benchmarks.table import print_rows
from harness.generators.grown_traces import grown_workflow
from harness.generators.scripted_log import EPOCH
from harness.models.line_counter import lines_of
from harness.models.log_invariants import check
from harness.models.log_reading import Record
from harness.processes.installation import TENANT, Installation
from tailrace_shared.execution.commands import create
from tailrace_shared.execution.events import Event, StepStarted
from tailrace_shared.execution.state import fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.graph import graph_of
from tailrace_worker.engine.decide.outcomes import completed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

SIZES: Final = (1000, 2000, 4000, 8000)
MOST_GROWTH: Final = 1.2
"""By how much the work for one node may grow where there are eight times as many."""


class Cost(NamedTuple):
    """The effort of a run."""

    nodes: int
    edges: int
    join: int
    seconds: float

    @property
    def each(self) -> float:
        """Microseconds for each node and edge."""
        return self.seconds / (self.nodes + self.edges) * 1e6

    def row(self) -> dict[str, object]:
        """Return a line of the table."""
        return {
            "nodes": self.nodes,
            "edges": self.edges,
            "join": self.join,
            "seconds": round(self.seconds, 2),
            "us each": round(self.each, 1),
        }


def cost(workflow: Definition, seconds: float) -> Cost:
    """Return what a run of a workflow took."""
    widths = [len(node.needs) for node in workflow.nodes.values()]
    return Cost(len(widths), sum(widths), max(widths), seconds)


@pytest.mark.timeout(300)  # fifteen thousand tasks over NATS, one run after the other
@pytest.mark.parametrize("duration", ["0s", "1ms"])
async def test_a_run_of_eight_thousand_tasks_is_correct(site: Installation, duration: str):
    """One worker runs it over NATS, and the invariants hold for its log."""
    site.worker(log_level="warning")
    await run(site, grown_workflow(100, duration))  # the worker has warmed up
    costs = []
    for size in SIZES:
        workflow = grown_workflow(size, duration)
        costs.append(cost(workflow, await run(site, workflow)))
    print_rows([each.row() for each in costs], as_json=False)
    assert costs[-1].join > 1000


async def run(site: Installation, workflow: Definition) -> float:
    """Run a workflow to its end; return how long it took."""
    stored = await site.store(workflow)
    # The last commit is heard, not looked for: reading a long log takes its time.
    heard = await site.jetstream.client.subscribe(site.subjects.tenant_live(TENANT))
    begun = time.perf_counter()
    execution = await site.start(stored)
    async for message in heard.messages:
        if b'"type":"execution:completed"' in message.data:
            break
    seconds = time.perf_counter() - begun
    await heard.unsubscribe()
    check([Record(workflow, await site.commits(execution))])
    return seconds


def test_a_run_of_eight_thousand_tasks_is_decided_in_linear_work():
    """The scheduler examines what has changed, at any size of the workflow."""
    assert growth(lambda workflow: lines_of(lambda: history(workflow))) < MOST_GROWTH


def test_a_history_of_eight_thousand_tasks_is_taken_over_in_linear_work():
    """Recovery folds the log and makes a scheduler: both grow with the log, and no faster."""

    def take_over(workflow: Definition) -> int:
        events, plan = history(workflow), Plan(workflow)
        return lines_of(lambda: Scheduler(plan, fold(events[:-1])))

    assert growth(take_over) < MOST_GROWTH


def test_a_graph_of_eight_thousand_tasks_is_sorted_in_linear_work():
    """Sorting is the first thing that every worker does with a definition."""
    assert growth(lambda workflow: lines_of(lambda: graph_of(workflow))) < MOST_GROWTH


def growth(effort: Callable[[Definition], int]) -> float:
    """Return by how much the work for each node and edge grows from the smallest to the largest."""
    small, large = (
        effort(workflow) / (cost(workflow, 0).nodes + cost(workflow, 0).edges)
        for workflow in (grown_workflow(SIZES[0]), grown_workflow(SIZES[-1]))
    )
    return large / small


def history(workflow: Definition) -> list[Event]:
    """Return the log of a run in which every step succeeds at once."""
    log: list[Event] = [create("e1", workflow, 1, {}, EPOCH)]
    scheduler = Scheduler(Plan(workflow), fold(log))
    while decided := scheduler.decide(EPOCH):
        log += decided
        for event in decided:
            if isinstance(event, StepStarted):
                step = scheduler.state.steps[event.data.node_id]
                done = completed(step, None, format_timestamp(EPOCH), None)
                log.append(scheduler.record(done))
    assert fold(log).status == "completed"
    return log
