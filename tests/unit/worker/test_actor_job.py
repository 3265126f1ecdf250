"""The message that has an actor attend to one attempt of a step."""

import msgspec

from harness.generators.actor_log import HELD, NOW, actor_log
from tailrace_shared.execution.state import fold
from tailrace_shared.nats.jobs import JobMessage
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.services.actor_job import ActorJob, actor_job, message_for, watch_for

SUBJECTS = Subjects()


def test_a_message_names_the_attempt_that_is_to_begin():
    """It is one that Dramatiq's worker takes for its own, on the queue of its node type."""
    job = actor_job(SUBJECTS, "acme", fold(actor_log("waiting")), "a")
    assert job is not None
    assert job.subject == "tr.jobs.node%2Eocr%2Epage"
    message = msgspec.json.decode(job.payload, type=JobMessage)
    assert (message.queue_name, message.actor_name) == ("node.ocr.page", "node.ocr.page")
    assert ActorJob(*message.args) == ActorJob("acme", "e", "a", "ocr.page", 1)


def test_only_a_step_that_waits_for_an_actor_has_one():
    """A running step and an unknown step have none."""
    assert actor_job(SUBJECTS, "acme", fold(actor_log("running")), "a") is None
    assert actor_job(SUBJECTS, "acme", fold(actor_log("running")), "b") is None


def test_a_repetition_is_recognised_until_something_is_asked_of_the_execution():
    """A pause has actors drop the message: after it, the message must come through again."""
    state = fold(actor_log("waiting"))
    first = actor_job(SUBJECTS, "acme", state, "a")
    again = actor_job(SUBJECTS, "acme", state, "a")
    assert first is not None
    assert again is not None
    assert first.headers == again.headers
    state.apply(HELD)
    later = actor_job(SUBJECTS, "acme", state, "a")
    assert later is not None
    assert later.headers != first.headers


def test_the_next_attempt_is_no_repetition_of_the_last():
    """Its message has another id."""
    first = actor_job(SUBJECTS, "acme", fold(actor_log("waiting")), "a")
    second = actor_job(SUBJECTS, "acme", fold(actor_log("waiting again")), "a")
    assert first is not None
    assert second is not None
    assert first.headers != second.headers


def test_a_message_may_be_sent_that_no_other_is_a_repetition_of():
    """A worker that stops gives the job away, although it has been sent a moment ago."""
    assert message_for(SUBJECTS, ActorJob("acme", "e", "a", "ocr.page", 1)).headers == {}


def test_a_watch_is_the_message_for_later_and_replaces_an_earlier_one():
    """One schedule for each attempt, whose target is the queue."""
    job = ActorJob("acme", "e", "pages[3]", "ocr.page", 1)
    watch, again = (watch_for(SUBJECTS, job, NOW + after) for after in (5, 9))
    other = watch_for(SUBJECTS, job._replace(attempt=2), NOW)
    assert watch.subject == again.subject != other.subject
    assert watch.subject.startswith("tr.jobs.at.node%2Eocr%2Epage.")
    assert watch.headers["Nats-Schedule-Target"] == message_for(SUBJECTS, job).subject
    assert watch.headers["Nats-Schedule"] == "@at 2023-11-14T22:13:25Z"
