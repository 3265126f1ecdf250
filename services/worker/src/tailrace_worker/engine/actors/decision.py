"""Decide from the log what to do with an actor's message. Pure."""

from enum import Enum

from tailrace_shared.execution.state import ExecutionState
from tailrace_worker.engine.services.actor_job import ActorJob


class Decision(Enum):
    """The ways to handle a message."""

    START = "the step waits for this attempt"
    CHECK = "the attempt has started; ask whether a worker runs it"
    DROP = "the attempt is over, or may not start now"


def decide(state: ExecutionState, job: ActorJob) -> Decision:
    """Return what to do with a message.

    A dropped message is sent again by the driver, should the step wait for an actor after all. An
    attempt that has started is checked although the execution is held: a pause waits for its end.
    """
    step = state.steps.get(job.step_id)
    if step is None or state.status != "running" or state.must_stop:
        return Decision.DROP
    if is_attempt_of(state, job):
        return Decision.CHECK
    waits = step.status == "waiting" and step.waiting is not None and step.waiting.wait == "actor"
    if waits and step.attempt + 1 == job.attempt and not state.is_held:
        return Decision.START
    return Decision.DROP


def is_attempt_of(state: ExecutionState, job: ActorJob) -> bool:
    """Return whether the step runs the very attempt that a message names."""
    step = state.steps.get(job.step_id)
    return (
        step is not None
        and state.status == "running"
        and step.status == "running"
        and step.is_remote
        and step.attempt == job.attempt
    )
