"""The scheduler and maps: items are steps of their own, and the map ends with them."""

from typing import Any

import msgspec
import pytest

from harness.models.line_counter import lines_of
from harness.models.scheduled_run import NOW, ScheduledRun, short
from tailrace_shared.execution.events import (
    OutputRef,
    StepBegun,
    StepCompleted,
    StepDone,
    StepError,
    StepStarted,
)
from tailrace_shared.execution.items import item_id
from tailrace_shared.execution.state import fold
from tailrace_worker.engine.decide.scheduler import Scheduler


def mapped(**fields: Any) -> dict[str, Any]:
    """Return a map over the input."""
    return {
        "type": "map",
        "with": {"for_each": "input", "do": {"type": "test.item"}, **fields},
    }


def run_of(run_input: Any, **fields: Any) -> ScheduledRun:
    """Return an execution with a map `a` that a node `b` needs."""
    nodes = {"a": {**mapped(**fields), "stage": "pages"}, "b": {"needs": ["a"]}}
    return ScheduledRun(nodes, run_input)


def test_a_map_begins_with_as_many_items_as_it_allows():
    """It starts another whenever one has ended."""
    run = run_of(["x", "y", "z"], max_parallel=2)
    assert run.decide() == [
        "execution:started",
        "started:a",
        "expanded:a",
        "started:a[0]",
        "started:a[1]",
    ]
    assert [step.node_id for step in run.scheduler.attended] == ["a[0]", "a[1]"]
    assert run.succeed("a[1]", "Y") == ["started:a[2]"]
    assert run.succeed("a[2]", "Z") == []
    assert run.succeed("a[0]", "X") == ["completed:a", "started:b"]
    assert run.step("a").output == ["X", "Y", "Z"]


def test_a_map_and_its_items_are_of_one_stage():
    """All their events have it, from the start to a success or a failure."""
    run = run_of(["x", "y"], on_error="collect")
    run.decide()
    run.succeed("a[0]")
    run.take_over()
    run.fail("a[1]")
    kinds = (StepBegun, StepDone, StepError)
    recorded = [event.data for event in run.log if isinstance(event.data, kinds)]
    assert {(step.node_id, step.stage) for step in recorded} == {
        ("a", "pages"),
        ("a[0]", "pages"),
        ("a[1]", "pages"),
        ("b", None),
    }
    assert len(recorded) == 7


def test_a_map_over_nothing_ends_at_once():
    """Its output is an empty list."""
    run = run_of([])
    assert run.decide()[1:] == ["started:a", "expanded:a", "completed:a", "started:b"]
    assert run.step("a").output == []


@pytest.mark.parametrize("value", [None, 1, "text", {"x": 1}, [0] * 10_001, ["x" * 300_000]])
def test_what_cannot_be_mapped_fails_the_map(value: Any):
    """Before any item begins."""
    run = run_of(value)
    assert run.decide()[1:] == ["started:a", "failed:a", "skipped:b", "execution:failed"]
    assert (run.state.error or "").startswith("a: for_each: ")


def test_a_failed_item_fails_the_map_when_the_others_have_ended():
    """No item begins any more."""
    run = run_of([1, 2, 3, 4], max_parallel=2)
    run.decide()
    assert run.fail("a[1]") == []
    assert run.succeed("a[0]") == ["failed:a", "skipped:b", "execution:failed"]
    assert run.state.error == "a: item 1: broken"


def test_errors_are_collected_if_the_map_asks_for_it():
    """They take the places of the outputs."""
    run = run_of([1, 2], on_error="collect")
    run.decide()
    run.fail("a[0]")
    assert run.succeed("a[1]", "Y") == ["completed:a", "started:b"]
    assert run.step("a").output == [{"error": "broken"}, "Y"]


def test_an_item_that_is_tried_again_keeps_its_place():
    """It starts again when its retry is due."""
    run = run_of([1, 2], max_parallel=1)
    run.decide()
    assert run.retry("a[0]", NOW + 5) == []
    assert run.due() == NOW + 5
    assert run.decide(NOW + 5) == ["started:a[0]"]
    assert run.step("a[0]").attempt == 2


def test_large_outputs_together_are_not_repeated_in_the_maps_end():
    """They are gathered from the items', which are in the log."""
    run = run_of([0, 1])
    run.decide()
    run.succeed("a[0]", "x" * 40_000)
    run.succeed("a[1]", "y" * 40_000)
    (end,) = [e.data for e in run.log if isinstance(e, StepCompleted) and e.data.node_id == "a"]
    assert (end.output, end.output_omitted) == (None, True)
    assert [text[0] for text in run.step("a").output] == ["x", "y"]
    run.take_over()
    assert [text[0] for text in run.step("a").output] == ["x", "y"]


def test_a_map_whose_items_are_kept_elsewhere_completes_without_them():
    """They are fetched when an expression needs them."""
    run = run_of([0, 1])
    run.decide()
    run.succeed("a[0]", ref=OutputRef("t.e1.x", 300_000))
    assert run.succeed("a[1]", "small") == ["completed:a", "started:b"]
    assert run.step("a").output is msgspec.UNSET
    assert run.step("a").output_omitted


def test_the_next_driver_goes_on_with_the_same_items():
    """At every moment of a map, decisions follow from the log alone."""
    run = run_of(list(range(5)), max_parallel=2)
    run.decide()
    for index in range(5):
        run.take_over()
        assert run.decide() == []
        run.succeed(item_id("a", index), index)
    assert run.step("a").output == list(range(5))
    for length in range(1, len(run.log)):
        decided = Scheduler(run.plan, fold(run.log[:length])).decide(NOW)
        rest = [short([event])[0] for event in run.log[length:]]
        begun = [each for each in short(decided) if each.startswith("started:a[")]
        assert set(begun) <= set(rest)


def test_two_maps_take_turns():
    """Neither map waits until the other has started all of its items."""
    run = ScheduledRun({"a": mapped(max_parallel=2), "b": mapped(max_parallel=2)}, [1, 2, 3])
    begun = [e.data.node_id for e in run.scheduler.decide(NOW) if isinstance(e, StepStarted)]
    assert sorted(begun) == ["a", "a[0]", "a[1]", "b", "b[0]", "b[1]"]


def test_the_decisions_of_a_map_are_linear_in_its_items():
    """Four times the items are four times the work, not sixteen times."""

    def effort(count: int) -> int:
        run = run_of(list(range(count)), max_parallel=10)

        def go() -> None:
            run.decide()
            for index in range(count):
                run.succeed(item_id("a", index), index)

        lines = lines_of(go)
        assert run.step("a").status == "success"
        return lines

    assert effort(4000) < 4 * 1.1 * effort(1000)


def test_a_map_that_another_driver_has_started_finds_its_items():
    """That one may have died between two commits; who drove before has taken in the first."""
    first, other = run_of(["x"]), run_of(["x"])
    for event in other.scheduler.decide(NOW)[:2]:
        first.scheduler.record(event)
    assert first.decide() == ["expanded:a", "started:a[0]"]
