"""Whether a turn may be appended after what others have appended, although it was made before."""

import pytest

from harness.generators.workflows import definition
from tailrace_shared.execution.commands import create
from tailrace_shared.execution.events import (
    ExecutionStarted,
    Started,
    StepBegun,
    StepExpanded,
    StepExpansion,
    StepLog,
    StepLogged,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.state import fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.outcomes import completed, failed
from tailrace_worker.engine.decide.reorder import commute

NOW = 1_700_000_000.0
STAMP = format_timestamp(NOW)
ITEM = {"for_each": "input", "do": {"type": "some.actor"}}


def waits(step):
    """A step waits for an actor."""
    return StepWaiting(StepWait(step, "some.actor", "waiting", wait="actor", attempt=1), STAMP)


def begins(step, kind="some.actor"):
    """A step is begun."""
    return StepStarted(StepBegun(step, kind, "running", 1, STAMP, remote=True), STAMP)


def log():
    """Two items of a map wait for an actor, one has been begun."""
    workflow = definition({"m": {"type": "map", "with": ITEM}})
    started = ExecutionStarted(Started("e1", "running", STAMP), STAMP)
    expanded = StepExpanded(StepExpansion("m", "map", "running", [1, 2, 3, 4]), STAMP)
    return [
        create("e1", workflow, 1, [1, 2, 3, 4], NOW),
        started,
        begins("m", "map"),
        expanded,
        *(waits(f"m[{index}]") for index in range(3)),
        begins("m[0]"),
    ]


def ends(step, how=completed, value=None):
    """An item that has been begun ends."""
    return how(fold(log()).steps[step], value, STAMP)


def test_events_of_different_items_fold_to_the_same_in_either_order():
    """An actor ends one and begins another, while the driver lets a third wait."""
    theirs = [ends("m[0]", value=7), begins("m[1]")]
    ours = [waits("m[3]")]
    assert commute(theirs, ours)
    first, second = fold([*log(), *theirs, *ours]), fold([*log(), *ours, *theirs])
    assert first.steps == second.steps
    assert first.commit_status == second.commit_status


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        # The same step, or the map that is made of it.
        ([begins("m[1]")], [ends("m[0]"), begins("m[1]")]),
        ([ends("m[0]")], [failed(fold(log()).steps["m"], "late", STAMP)]),
        # An execution that begins, ends, pauses.
        ([begins("m[1]")], [log()[1]]),
        ([log()[1]], [waits("m[3]")]),
        # No item begins after one has failed.
        ([ends("m[0]", failed, "no")], [waits("m[3]")]),
    ],
)
def test_what_concerns_the_same_does_not_change_places(theirs, ours):
    """The turn is made anew, on what is there by then."""
    assert not commute(theirs, ours)


def test_no_value_is_appended_after_marks_that_were_not_known():
    """Marked values must be masked in all that follows."""
    marked = ends("m[0]", value={"card": "1"})
    marked.data.sensitive = ["/card"]
    logged = StepLogged(StepLog("a", "simulate", "info", "hello", {"card": "1"}), STAMP)
    assert commute([ends("m[0]", value={"card": "1"})], [waits("m[3]"), logged])
    assert commute([marked], [waits("m[3]"), begins("a", "simulate")])
    assert not commute([marked], [waits("m[3]"), logged])
