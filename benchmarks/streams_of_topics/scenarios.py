"""The streams that the benchmark opens, and the events that it publishes."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from harness.generators import hand_written_log as written
from tailrace_api.routes.front_ends.pipelines import MAX_PIPELINES
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import CommitStatus
from tailrace_shared.execution.timestamps import format_timestamp

_WORKFLOWS: Final = 50
# Coprime to numbers of runs and of pipelines, so that clients' choices differ.
_STEP: Final = 37

Mode = Literal["cold", "known", "returning"]


class Run(NamedTuple):
    """A run and its workflow."""

    tenant: str
    execution: str
    workflow: str


class Scenario(NamedTuple):
    """The streams to open and the events to publish.

    Attributes:
        paths: for each client, its tenant and the path that it requests.
        runs: the runs; events are of each in turn.
        deliveries: for each run, the number of clients that receive its events.
        event: makes an event that contains its time, and the run's status after it.
        mode: ``cold``: the process starts after the runs; ``known``: before; ``returning``: the
            clients come back to a process that starts while they are away.
    """

    name: str
    paths: Sequence[tuple[str, str]]
    runs: Sequence[Run]
    deliveries: Sequence[int]
    event: Callable[[Run, int], tuple[Any, CommitStatus]]
    mode: Mode = "cold"

    def wanted(self, events: int, first: int = 0) -> int:
        """Return the number of deliveries of some events, beginning with the event ``first``."""
        return sum(
            self.deliveries[number % len(self.runs)] for number in range(first, first + events)
        )


def sets(clients: int, topics: int, extra: str, mode: Mode) -> Scenario:
    """Return a scenario in which each client follows ``topics`` runs that no other has together.

    Args:
        extra: further topics of each client, separated by commas.
    """
    runs = [Run("default", f"run{each}", f"flow{each % _WORKFLOWS}") for each in range(clients)]
    followed: Counter[int] = Counter()
    paths = []
    for client in range(clients):
        chosen = sorted({(client + each * (each + 1) * _STEP) % clients for each in range(topics)})
        followed.update(chosen)
        names = [f"execution:{runs[number].execution}" for number in chosen]
        names += [name for name in extra.split(",") if name]
        paths.append(("default", f"/api/v1/sse/stream?topics={','.join(names)}"))
    everywhere = clients if "feed" in extra else 0
    deliveries = [followed[number] + everywhere for number in range(clients)]
    name = f"{clients} sets of {topics} runs{' + ' + extra if extra else ''}, {mode}"
    return Scenario(name, paths, runs, deliveries, _progress, mode)


def feeds(tenants: int, clients: int) -> Scenario:
    """Return a scenario in which each of many tenants has some clients of its feed."""
    runs = [Run(f"t{each}", f"run-t{each}", f"flow{each % _WORKFLOWS}") for each in range(tenants)]
    paths = [(run.tenant, "/api/realtime/events") for run in runs for _ in range(clients)]
    name = f"{tenants} tenants with {clients} feeds"
    return Scenario(name, paths, runs, [clients] * tenants, _progress)


def pipelines(count: int, clients: int, each: int, dashboards: int) -> Scenario:
    """Return a scenario in which clients follow the status of pipelines of one tenant.

    Args:
        clients: the number of clients that follow ``each`` pipelines, no two of them the same.
        dashboards: the number of pages that follow all pipelines, by as many streams as it takes.
    """
    runs = [Run("default", f"run{number}", f"flow{number}") for number in range(count)]
    followed: Counter[int] = Counter()
    chosen = [
        [(client * _STEP + other) % count for other in range(each)] for client in range(clients)
    ]
    chosen += [
        list(range(first, min(first + MAX_PIPELINES, count)))
        for first in range(0, count, MAX_PIPELINES)
    ] * dashboards
    paths = []
    for numbers in chosen:
        followed.update(numbers)
        names = ",".join(runs[number].workflow for number in sorted(numbers))
        paths.append(("default", f"/ui-api/pipeline/status/stream?pipelineIds={names}"))
    name = f"{count} pipelines: {clients} streams of {each}, {dashboards} pages of all"
    return Scenario(
        name, paths, runs, [followed[number] for number in range(count)], _toggle(count)
    )


def _progress(_run: Run, _number: int) -> tuple[Any, CommitStatus]:
    # A message of a size and a kind that the streams of runs and the feed both show.
    event = written.step_progress("n", 50.0)
    event.data.message = f"~@{time.time_ns()}@"
    return event, CommitStatus("running")


def _toggle(count: int) -> Callable[[Run, int], tuple[Any, CommitStatus]]:
    """Return events each of which changes the status of its pipeline."""

    def event(run: Run, number: int) -> tuple[Any, CommitStatus]:
        now = format_timestamp(time.time())
        if number // count % 2:
            resumed = ev.Resumed(run.execution, "running")
            return ev.ExecutionResumed(resumed, now), CommitStatus("running")
        paused = ev.Paused(run.execution, "paused", "requested", requested=True)
        return ev.ExecutionPaused(paused, now), CommitStatus("paused")

    return event
