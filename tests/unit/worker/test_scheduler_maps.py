"""The scheduler and maps: items are steps of their own, and the map ends with them."""

from typing import Any

import msgspec
import pytest

from harness.generators.workflows import definition
from harness.models.line_counter import lines_of
from tailrace_shared.execution.commands import create
from tailrace_shared.execution.events import (
    Event,
    OutputRef,
    StepBegun,
    StepCompleted,
    StepDone,
    StepError,
    StepEvent,
    StepStarted,
)
from tailrace_shared.execution.state import fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.outcomes import completed, failed, retrying
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

NOW = 1_700_000_000.0
STAMP = format_timestamp(NOW)


def mapped(**fields: Any) -> dict[str, Any]:
    """Return a map over the input."""
    return {
        "type": "map",
        "with": {"for_each": "input", "do": {"type": "test.item"}, **fields},
    }


class Run:
    """An execution with a map `a` that a node `b` needs, and its log."""

    def __init__(self, run_input: Any, **fields: Any) -> None:
        workflow = definition({"a": {**mapped(**fields), "stage": "pages"}, "b": {"needs": ["a"]}})
        self.plan = Plan(workflow)
        self.log: list[Event] = [create("e1", workflow, 1, run_input, NOW)]
        self.scheduler = Scheduler(self.plan, fold(self.log))

    def decide(self, now: float = NOW) -> list[str]:
        """Return what must happen, written short."""
        decided: list[Event] = []
        while some := self.scheduler.decide(now):
            decided += some
        self.log += decided
        return short(decided)

    def record(self, event: Event) -> list[str]:
        """Record what an item did; returns what follows."""
        self.log.append(self.scheduler.record(event))
        return self.decide()

    def succeed(self, index: int, output: Any = None, ref: OutputRef | None = None) -> list[str]:
        """Have an item succeed; returns what follows."""
        step = self.scheduler.state.steps[f"a[{index}]"]
        return self.record(completed(step, output, STAMP, ref))

    def fail(self, index: int) -> list[str]:
        """Have an item fail for good; returns what follows."""
        return self.record(failed(self.scheduler.state.steps[f"a[{index}]"], "broken", STAMP))

    def take_over(self) -> None:
        """Go on as a worker that has read nothing but the log."""
        self.scheduler = Scheduler(self.plan, fold(self.log))


def short(events: list[Event]) -> list[str]:
    """Write events as `type:node`, for comparing."""
    return [
        f"{str(type(event).__struct_config__.tag).partition(':')[2]}:{event.data.node_id}"
        if isinstance(event, StepEvent)
        else str(type(event).__struct_config__.tag)
        for event in events
    ]


def test_a_map_begins_with_as_many_items_as_it_allows():
    """And begins another whenever one has ended."""
    run = Run(["x", "y", "z"], max_parallel=2)
    assert run.decide() == [
        "execution:started",
        "started:a",
        "expanded:a",
        "started:a[0]",
        "started:a[1]",
    ]
    assert [step.node_id for step in run.scheduler.attended] == ["a[0]", "a[1]"]
    assert run.succeed(1, "Y") == ["started:a[2]"]
    assert run.succeed(2, "Z") == []
    assert run.succeed(0, "X") == ["completed:a", "started:b"]
    assert run.scheduler.state.steps["a"].output == ["X", "Y", "Z"]


def test_a_map_and_its_items_are_of_one_stage():
    """From their beginning to their end, whether that is good or bad."""
    run = Run(["x", "y"], on_error="collect")
    run.decide()
    run.succeed(0)
    run.take_over()
    run.fail(1)
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
    """With an empty list."""
    run = Run([])
    assert run.decide()[1:] == ["started:a", "expanded:a", "completed:a", "started:b"]
    assert run.scheduler.state.steps["a"].output == []


@pytest.mark.parametrize("value", [None, 1, "text", {"x": 1}, [0] * 10_001, ["x" * 300_000]])
def test_what_cannot_be_mapped_fails_the_map(value: Any):
    """Before any item begins."""
    run = Run(value)
    assert run.decide()[1:] == ["started:a", "failed:a", "skipped:b", "execution:failed"]
    assert (run.scheduler.state.error or "").startswith("a: for_each: ")


def test_a_failed_item_fails_the_map_when_the_others_have_ended():
    """No item begins any more."""
    run = Run([1, 2, 3, 4], max_parallel=2)
    run.decide()
    assert run.fail(1) == []
    assert run.succeed(0) == ["failed:a", "skipped:b", "execution:failed"]
    assert run.scheduler.state.error == "a: item 1: broken"


def test_errors_are_collected_if_the_map_asks_for_it():
    """In the places of the outputs."""
    run = Run([1, 2], on_error="collect")
    run.decide()
    run.fail(0)
    assert run.succeed(1, "Y") == ["completed:a", "started:b"]
    assert run.scheduler.state.steps["a"].output == [{"error": "broken"}, "Y"]


def test_an_item_that_is_tried_again_keeps_its_place():
    """And starts again at its time."""
    run = Run([1, 2], max_parallel=1)
    run.decide()
    again = retrying(run.scheduler.state.steps["a[0]"], "error", "broken", NOW + 5, STAMP)
    assert run.record(again) == []
    assert run.scheduler.next_due == NOW + 5
    assert run.decide(NOW + 5) == ["started:a[0]"]
    assert run.scheduler.state.steps["a[0]"].attempt == 2


def test_large_outputs_together_are_not_repeated_in_the_maps_end():
    """They are gathered from the items', which are in the log."""
    run = Run([0, 1])
    run.decide()
    run.succeed(0, "x" * 40_000)
    run.succeed(1, "y" * 40_000)
    (end,) = [e.data for e in run.log if isinstance(e, StepCompleted) and e.data.node_id == "a"]
    assert (end.output, end.output_omitted) == (None, True)
    assert [text[0] for text in run.scheduler.state.steps["a"].output] == ["x", "y"]
    run.take_over()
    assert [text[0] for text in run.scheduler.state.steps["a"].output] == ["x", "y"]


def test_a_map_whose_items_are_kept_elsewhere_completes_without_them():
    """They are fetched when an expression needs them."""
    run = Run([0, 1])
    run.decide()
    run.succeed(0, ref=OutputRef("t.e1.x", 300_000))
    assert run.succeed(1, "small") == ["completed:a", "started:b"]
    assert run.scheduler.state.steps["a"].output is msgspec.UNSET
    assert run.scheduler.state.steps["a"].output_omitted


def test_the_next_driver_goes_on_with_the_same_items():
    """At every moment of a map, decisions follow from the log alone."""
    run = Run(list(range(5)), max_parallel=2)
    run.decide()
    for index in range(5):
        run.take_over()
        assert run.decide() == []
        run.succeed(index, index)
    assert run.scheduler.state.steps["a"].output == list(range(5))
    for length in range(1, len(run.log)):
        decided = Scheduler(run.plan, fold(run.log[:length])).decide(NOW)
        rest = [short([event])[0] for event in run.log[length:]]
        begun = [each for each in short(decided) if each.startswith("started:a[")]
        assert set(begun) <= set(rest)


def test_two_maps_take_turns():
    """Neither waits until the other has begun all of its items."""
    workflow = definition({"a": mapped(max_parallel=2), "b": mapped(max_parallel=2)})
    scheduler = Scheduler(Plan(workflow), fold([create("e1", workflow, 1, [1, 2, 3], NOW)]))
    begun = [e.data.node_id for e in scheduler.decide(NOW) if isinstance(e, StepStarted)]
    assert sorted(begun) == ["a", "a[0]", "a[1]", "b", "b[0]", "b[1]"]


def test_the_decisions_of_a_map_are_linear_in_its_items():
    """Four times the items are four times the work, not sixteen times."""

    def effort(count: int) -> int:
        run = Run(list(range(count)), max_parallel=10)

        def go() -> None:
            run.decide()
            for index in range(count):
                run.succeed(index, index)

        lines = lines_of(go)
        assert run.scheduler.state.steps["a"].status == "success"
        return lines

    assert effort(4000) < 4 * 1.1 * effort(1000)


def test_a_map_that_another_driver_has_started_finds_its_items():
    """That one may have died between two commits; who drove before has taken in the first."""
    first, other = Run(["x"]), Run(["x"])
    for event in other.scheduler.decide(NOW)[:2]:
        first.scheduler.record(event)
    assert first.decide() == ["expanded:a", "started:a[0]"]
