"""What becomes of an actor's message, by the log. Pure."""

from enum import Enum

from tailrace_shared.execution.state import ExecutionState
from tailrace_worker.engine.services.actor_job import ActorJob


class Decision(Enum):
    """What the log says of a message."""

    START = "the step waits for this attempt"
    ASK = "the attempt has begun; whoever attends to it must be asked"
    DROP = "the attempt is over, or is not to begin now"


def decide(state: ExecutionState, job: ActorJob) -> Decision:
    """Return what becomes of a message.

    A message that is dropped is sent again by whoever drives the execution, should the step wait
    for an actor after all. An attempt that has begun is looked after although the execution is
    held: a pause waits for its end.
    """
    step = state.steps.get(job.step_id)
    if step is None or state.status != "running" or state.cancel is not None:
        return Decision.DROP
    if is_attempt_of(state, job):
        return Decision.ASK
    waits = step.status == "waiting" and step.waiting is not None and step.waiting.wait == "actor"
    if waits and step.attempt + 1 == job.attempt and not state.is_held:
        return Decision.START
    return Decision.DROP


def is_attempt_of(state: ExecutionState, job: ActorJob) -> bool:
    """Tell whether the attempt that a message stands for is the one that the step runs now."""
    step = state.steps.get(job.step_id)
    return (
        step is not None
        and state.status == "running"
        and step.status == "running"
        and step.is_remote
        and step.attempt == job.attempt
    )
