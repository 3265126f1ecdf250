"""The progress of a map, and its next items."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace_shared.execution.items import item_id
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.transitions import StepStatus
from tailrace_shared.workflow.definition import ItemWork, MapWork, OnError
from tailrace_worker.engine.decide.maps import MapProgress

WORK = ItemWork("transform")


def progress(total: int, limit: int = 10, on_error: OnError = "fail") -> MapProgress:
    """Return the progress of a map of which no item has begun."""
    return MapProgress(MapWork("input", WORK, limit, on_error), total)


def note(of: MapProgress, index: int, status: StepStatus) -> bool:
    """Take an item's status into account."""
    return of.note(StepState(item_id("a", index), status=status))


def test_a_map_over_nothing_is_complete():
    """There is nothing to wait for."""
    assert progress(0).next_move() == "complete"


def test_items_begin_in_their_order_as_far_as_the_limit_allows():
    """The next one when one has ended."""
    of = progress(3, limit=2)
    for index in (0, 1):
        assert (of.next_move(), of.next_index) == ("start", index)
        assert not note(of, index, "running")
    assert of.next_move() == "wait"
    assert note(of, 1, "success")
    assert (of.next_move(), of.next_index) == ("start", 2)
    note(of, 2, "running")
    assert of.next_move() == "wait"
    note(of, 2, "success")
    assert of.next_move() == "wait"
    note(of, 0, "success")
    assert of.next_move() == "complete"


@pytest.mark.parametrize("status", ["running", "waiting", "retrying"])
def test_an_item_keeps_its_place_while_it_waits_or_is_tried_again(status: StepStatus):
    """The limit is one on items that have begun and not ended."""
    of = progress(2, limit=1)
    note(of, 0, "running")
    note(of, 0, status)
    assert of.next_move() == "wait"


def test_after_a_failure_no_item_begins_and_the_map_fails_with_the_last_that_runs():
    """`fail` is the default."""
    of = progress(5, limit=2)
    note(of, 0, "running")
    note(of, 1, "running")
    note(of, 1, "error")
    assert of.next_move() == "wait"
    note(of, 0, "success")
    assert (of.next_move(), of.first_failed) == ("fail", 1)


def test_a_map_that_collects_errors_runs_all_items():
    """It continues to the last item."""
    of = progress(2, limit=1, on_error="collect")
    note(of, 0, "running")
    note(of, 0, "error")
    assert of.next_move() == "start"
    note(of, 1, "error")
    assert of.next_move() == "complete"


def test_an_item_is_settled_once():
    """A repeated end of an item frees no second place."""
    of = progress(3, limit=1)
    note(of, 0, "running")
    assert note(of, 0, "success")
    assert not note(of, 0, "success")
    assert of.next_move() == "start"


def test_the_error_of_a_map_does_not_depend_on_the_reader_of_the_log():
    """A driver that saw the items fail names the same one as a driver that read it."""
    live = progress(2)
    for index in (0, 1):
        note(live, index, "running")
    note(live, 1, "error")
    note(live, 0, "error")
    recovered = progress(2)
    for index in (0, 1):
        note(recovered, index, "error")
    assert live.first_failed == recovered.first_failed == 0


@settings(deadline=None)  # how long an example takes says more of the machine than of a map
@given(
    st.integers(0, 40),
    st.integers(1, 8),
    st.sampled_from(["fail", "collect"]),
    st.floats(0, 0.5),
    st.randoms(use_true_random=False),
)
def test_every_map_comes_to_an_end_within_its_limit(
    total: int, limit: int, on_error: OnError, fail_rate: float, source: random.Random
):
    """For any outcomes of its items, in any order."""
    of = progress(total, limit, on_error)
    running: set[int] = set()
    failed: set[int] = set()
    while (move := of.next_move()) not in {"complete", "fail"}:
        if move == "start":
            assert not failed or on_error == "collect"
            running.add(of.next_index)
            note(of, of.next_index, "running")
            assert len(running) <= limit
        else:
            index = source.choice(sorted(running))
            status: StepStatus = source.choice(["running", "retrying", "success"])
            if source.random() < fail_rate:
                status = "error"
                failed.add(index)
            if status in {"success", "error"}:
                running.remove(index)
            note(of, index, status)
    assert not running
    assert (move == "fail") == (bool(failed) and on_error == "fail")
    assert of.next_index == total or move == "fail"
