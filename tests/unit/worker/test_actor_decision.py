"""The decision about an actor's message, by the log alone."""

import pytest

from harness.generators.actor_log import (
    CANCELLING,
    ENDED,
    HELD,
    PAUSED,
    RELEASED,
    actor_log,
    begins,
    queued,
    started,
    waits,
)
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import fold
from tailrace_worker.engine.actors.decision import Decision, decide
from tailrace_worker.engine.services.actor_job import ActorJob


def verdict(log: list[Event], attempt: int = 1, step: str = "a") -> Decision:
    """Return what becomes of the message for an attempt."""
    return decide(fold(log), ActorJob("acme", "e", step, "ocr.page", attempt))


def test_an_attempt_begins_while_its_step_waits_for_it():
    """The first, and each that follows a retry."""
    assert verdict(actor_log("waiting")) is Decision.START
    assert verdict(actor_log("waiting again"), attempt=2) is Decision.START


@pytest.mark.parametrize(
    ("until", "attempt"),
    [
        ("queued", 1),
        ("retrying", 1),
        ("waiting again", 1),
        ("running again", 1),
        ("completed", 1),
        ("waiting", 2),
    ],
)
def test_a_message_for_another_attempt_than_the_next_is_dropped(until, attempt):
    """A duplicate, a zombie's, or one that the log says nothing of."""
    assert verdict(actor_log(until), attempt) is Decision.DROP


def test_a_message_for_a_running_attempt_has_its_worker_checked():
    """Redelivered after a crash, or merely sent twice: the log alone cannot tell."""
    assert verdict(actor_log("running")) is Decision.CHECK
    assert verdict(actor_log("running again"), attempt=2) is Decision.CHECK


def test_a_step_that_the_driver_runs_itself_is_none_of_an_actors_business():
    """The node type was no actor when the attempt began."""
    log = [queued(), started(), begins(1, remote=False)]
    assert verdict(log) is Decision.DROP


def test_nothing_begins_in_an_execution_that_is_held():
    """Nothing begins before the driver has resumed it; the driver then sends the message again."""
    assert verdict(actor_log("waiting", HELD)) is Decision.DROP
    assert verdict(actor_log("waiting", HELD, PAUSED)) is Decision.DROP
    assert verdict(actor_log("waiting", HELD, PAUSED, RELEASED)) is Decision.DROP
    assert verdict(actor_log("waiting", HELD, RELEASED)) is Decision.START


def test_a_pause_waits_for_the_end_of_an_attempt_that_runs():
    """So it is noticed, if its worker is lost meanwhile."""
    assert verdict(actor_log("running", HELD)) is Decision.CHECK


def test_a_cancelled_execution_needs_no_more_attempts():
    """New attempts do not begin, and lost ones are not replaced."""
    assert verdict(actor_log("waiting", CANCELLING)) is Decision.DROP
    assert verdict(actor_log("running", CANCELLING)) is Decision.DROP


def test_an_execution_that_has_ended_needs_no_more_attempts():
    """However it has."""
    assert verdict(actor_log("completed", ENDED)) is Decision.DROP


def test_an_item_of_a_map_is_a_step_like_others():
    """Its id has brackets."""
    log = actor_log("waiting", waits(1, step="a[0]"))
    assert verdict(log, step="a[0]") is Decision.START
    assert verdict(log, step="a[1]") is Decision.DROP
