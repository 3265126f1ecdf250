"""The state of a watched run, folded from its events."""

from typing import Any

import pytest

from tailrace.stream import Event
from tailrace.view.eta import remaining_seconds
from tailrace.view.model import Run

GRAPH = {
    "nodes": [
        {"id": "split", "type": "simulate", "name": "Split"},
        {"id": "map_1", "type": "simulate", "name": ""},
        {"id": "map_2", "type": "simulate", "name": ""},
        {"id": "join", "type": "simulate", "name": ""},
    ],
    "edges": [
        {"source": "split", "target": "map_1"},
        {"source": "split", "target": "map_2"},
        {"source": "map_1", "target": "join"},
        {"source": "map_2", "target": "join"},
    ],
    "layers": [["split"], ["map_1", "map_2"], ["join"]],
}


def at(second: float) -> str:
    """Return a timestamp so many seconds after the epoch."""
    return f"1970-01-01T00:00:{second:06.3f}Z"


def event(kind: str, second: float, **data: Any) -> Event:
    """Return an event."""
    return Event(f"e-{second}-0", kind, data, at(second))


def started(node: str, second: float, **data: Any) -> Event:
    """Return the start of a step."""
    return event(
        "step:started", second, node_id=node, node_type="simulate", started_at=at(second), **data
    )


def completed(node: str, second: float, duration: float) -> Event:
    """Return the end of a step that took ``duration`` seconds."""
    return event("step:completed", second, node_id=node, duration_ms=duration * 1000)


@pytest.fixture
def run() -> Run:
    """A run that has begun, with its graph."""
    run = Run("e1")
    run.add_graph(GRAPH)
    run.apply(event("execution:queued", 0, execution_id="e1", workflow_id="flow"))
    run.apply(event("execution:started", 1, execution_id="e1"))
    return run


def test_a_step_goes_from_pending_to_success(run: Run) -> None:
    """Its duration ticks while it runs, and is the log's once it has ended."""
    run.apply(started("split", 1))
    assert run.steps["split"].elapsed(now=3.5) == 2.5

    run.apply(completed("split", 4, 2.9))

    assert run.steps["split"].status == "success"
    assert run.steps["split"].elapsed(now=99) == 2.9
    assert run.progress() == 0.25


def test_a_retry_shows_its_cause_and_the_next_attempt_begins_anew(run: Run) -> None:
    """Reports of the failed attempt do not count for the next one."""
    run.apply(started("split", 1))
    run.apply(event("step:progress", 2, node_id="split", percent=80.0, message="almost"))
    run.apply(event("step:retrying", 3, node_id="split", attempt=1, error="no", retry_at=at(5)))
    step = run.steps["split"]
    assert (step.status, step.error, step.due, step.percent) == ("retrying", "no", 5.0, None)

    run.apply(started("split", 5, attempt=2))

    assert (step.status, step.attempt, step.error, step.message) == ("running", 2, "", "")


def test_progress_counts_what_running_steps_report(run: Run) -> None:
    """Half of one of four steps is an eighth; a share never exceeds 1."""
    run.apply(started("split", 1))
    run.apply(event("step:progress", 2, node_id="split", percent=50.0))
    assert run.progress() == 0.125

    run.apply(event("step:progress", 2, node_id="split", percent=1000.0))
    assert run.progress() == 0.25


def test_the_end_of_a_run_settles_what_was_active(run: Run) -> None:
    """A cancelled run leaves no step running."""
    run.apply(started("split", 1))
    run.apply(event("execution:cancelled", 3, reason="by hand"))

    assert run.steps["split"].status == "cancelled"
    assert run.steps["join"].status == "pending"
    assert (run.status, run.error, run.elapsed(now=99)) == ("cancelled", "by hand", 3.0)


def test_a_reset_begins_anew_and_keeps_the_graph(run: Run) -> None:
    """After a reset the stream starts again."""
    run.apply(started("split", 1))
    run.apply(Event("", "stream:reset", {"reason": "expired", "from": None}))

    assert run.expired
    assert run.steps["split"].status == "pending"
    assert run.steps["join"].needs == ["map_1", "map_2"]


def test_events_and_nodes_that_are_not_known_do_no_harm(run: Run) -> None:
    """The API may be newer than this client, and the graph of another version."""
    run.apply(event("step:pondering", 2, node_id="split"))
    run.apply(event("pod:moved", 2))
    run.apply(event("connected", 2))
    run.apply(started("stranger", 2, name="New"))

    assert run.steps["stranger"].name == "New"
    assert run.counts() == {"pending": 4, "running": 1}


def test_a_run_document_equals_the_events(run: Run) -> None:
    """`show` draws what `watch` drew."""
    run.apply(started("split", 1))
    run.apply(completed("split", 4, 3))
    document = {
        "execution_id": "e1",
        "workflow_id": "flow",
        "status": "running",
        "created_at": at(0),
        "finished_at": None,
        "error": None,
        "steps": [
            {
                "node_id": node,
                "name": run.steps[node].name,
                "node_type": "simulate",
                "status": "success" if node == "split" else "pending",
                "attempt": 1,
                "started_at": at(1) if node == "split" else None,
                "duration_ms": 3000 if node == "split" else None,
                "error": None,
            }
            for node in run.steps
        ],
    }
    shown = Run("e1")

    shown.add_document(document)

    for step in shown.steps.values():
        step.needs = run.steps[step.id].needs
    shown.layers = run.layers
    assert shown == run


def test_nothing_is_expected_before_a_step_has_finished(run: Run) -> None:
    """Without finished steps there is no estimate."""
    run.apply(started("split", 1))

    assert remaining_seconds(run, now=2) is None


def test_the_remaining_time_is_the_longest_path_of_similar_steps(run: Run) -> None:
    """Parallel steps count once; the join is estimated by its type."""
    run.apply(started("split", 1))
    run.apply(completed("split", 3, 2))
    run.apply(started("map_1", 3))
    run.apply(started("map_2", 3))
    run.apply(completed("map_1", 7, 4))

    # map_2 is expected to take 4 s like map_1; the join 3 s, the mean.
    assert remaining_seconds(run, now=5) == 2 + 3
    # It is overdue: a fifth of the 5 s that it has taken is added.
    assert remaining_seconds(run, now=8) == 1 + 3


def test_a_step_that_reports_progress_is_measured_by_it(run: Run) -> None:
    """A quarter done in two seconds leaves six."""
    run.apply(started("split", 1))
    run.apply(completed("split", 2, 1))
    run.apply(started("map_1", 2))
    run.apply(event("step:progress", 4, node_id="map_1", percent=25.0))

    assert remaining_seconds(run, now=4) == 7


def test_a_step_that_waits_takes_until_its_time_has_come(run: Run) -> None:
    """The end of a wait is known."""
    run.apply(started("split", 1))
    run.apply(completed("split", 2, 1))
    run.apply(started("map_1", 2))
    run.apply(event("step:waiting", 2, node_id="map_1", until=at(30)))

    assert remaining_seconds(run, now=10) == 21


def test_items_count_for_their_map(run: Run) -> None:
    """Items are not drawn; they determine the progress of the map."""
    run.apply(started("map_1", 1, name="Pages"))
    run.apply(event("step:expanded", 1, node_id="map_1", node_type="map", items=[1, 2, 3, 4]))
    for index in range(3):
        run.apply(started(f"map_1[{index}]", 1))
    run.apply(completed("map_1[0]", 2, 1))
    run.apply(event("step:failed", 2, node_id="map_1[1]", duration_ms=5, error="no"))

    pages = run.steps["map_1"]
    assert len(run.steps) == 4
    assert (pages.percent, pages.message) == (50.0, "2/4, 1 failed")
    assert run.progress() == 0.125
    run.apply(event("execution:cancelled", 3, reason="by hand"))
    assert pages.items["map_1[2]"].status == "cancelled"


def test_a_cancelled_step_is_not_done(run: Run) -> None:
    """Progress stays unchanged, as in the API's document."""
    run.apply(completed("split", 2, 1))
    run.apply(started("map_1", 2))
    run.apply(event("execution:cancelled", 3, reason="by hand"))

    assert run.steps["map_1"].status == "cancelled"
    assert run.progress() == 0.25


def test_a_run_document_counts_items_as_the_events_do(run: Run) -> None:
    """The order of the items does not matter."""
    run.apply(started("map_1", 1))
    run.apply(event("step:expanded", 1, node_id="map_1", node_type="map", items=[1, 2]))
    run.apply(started("map_1[0]", 1))
    run.apply(completed("map_1[0]", 2, 1))
    shown = Run("e1")
    steps: list[dict[str, Any]] = [
        {"node_id": "map_1", "status": "running", "items": 2},
        {"node_id": "map_1[0]", "status": "success"},
        {"node_id": "map_1[1]", "status": "pending"},
    ]
    shown.add_document(
        {
            "workflow_id": "flow",
            "status": "running",
            "created_at": at(0),
            "steps": [{"node_type": "simulate", **step} for step in steps],
        }
    )

    assert shown.steps["map_1"].message == run.steps["map_1"].message == "1/2"
    assert list(shown.steps) == ["map_1"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"wait": "signal"}, "a decision"),
        ({"wait": "signal", "reason": "approval", "triggers": ["a.b"]}, "approval or a.b"),
        (
            {"wait": "child", "child_workflow_id": "invoice", "child_execution_id": "e2"},
            "invoice e2",
        ),
        ({"wait": "actor"}, "an actor"),
        ({"until": "1970-01-01T00:00:30.000Z"}, ""),
    ],
)
def test_a_step_shows_its_wait(run: Run, data: dict[str, Any], words: str) -> None:
    """The wait is cleared when the step continues."""
    run.apply(started("split", 1))
    run.apply(event("step:waiting", 2, node_id="split", **data))

    assert run.steps["split"].waits_for == words
    run.apply(started("split", 3, attempt=2))
    assert (run.steps["split"].waits_for, run.steps["split"].wait) == ("", "")


def test_a_pause_differs_from_a_wait(run: Run) -> None:
    """The one needs a resume, the other a decision."""
    run.apply(started("split", 1))
    run.apply(event("step:waiting", 2, node_id="split", wait="signal"))
    run.apply(event("execution:paused", 2, reason="signal", waiting=["split"]))
    assert (run.status, run.is_held, run.error) == ("paused", False, "")
    assert [step.id for step in run.waiting()] == ["split"]
    run.apply(event("execution:paused", 3, reason="requested", requested=True))
    assert run.is_held
    run.apply(event("execution:resumed", 4))
    assert (run.status, run.is_held) == ("running", False)


def test_decisions_are_not_estimated(run: Run) -> None:
    """A waiting decision has no estimate, and past decisions are not used for one."""
    run.steps["map_1"].type = "await"
    run.apply(started("split", 1))
    run.apply(completed("split", 2, 1))
    run.apply(event("step:waiting", 2, node_id="map_1", wait="signal", until=at(50)))
    assert remaining_seconds(run, now=10) == 2


def test_the_servers_estimate_comes_first(run: Run) -> None:
    """When its time has passed, the estimate uses the steps of this run."""
    run.apply(event("execution:started", 1, execution_id="e1", eta_ms=20_000))
    assert remaining_seconds(run, 6) == 15
    run.apply(started("split", 1))
    run.apply(event("step:progress", 8, node_id="split", percent=50.0, eta_ms=30_000))
    assert remaining_seconds(run, 9) == 29
    run.apply(completed("split", 9, 8.0))
    assert remaining_seconds(run, 40) == 16


def test_a_pause_discards_the_servers_estimate(run: Run) -> None:
    """The time of the pause is unknown."""
    run.apply(event("execution:started", 1, execution_id="e1", eta_ms=20_000))
    run.apply(event("execution:paused", 2, execution_id="e1"))
    run.apply(event("execution:resumed", 10, execution_id="e1"))
    assert remaining_seconds(run, 11) is None
