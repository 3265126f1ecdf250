"""The message that asks an actor to run one attempt of a step. Pure."""

import hashlib
from typing import NamedTuple

import msgspec

from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.jobs import JobMessage, at_headers, trace_options
from tailrace_shared.subjects import Subjects


class ActorJob(NamedTuple):
    """The arguments of the message, in their order.

    Attributes:
        step_id: the step, which may be an item of a map.
    """

    tenant: str
    execution: str
    step_id: str
    node_type: str
    attempt: int


class OutgoingJob(NamedTuple):
    """A message to publish to JetStream."""

    subject: str
    payload: bytes
    headers: dict[str, str]


def actor_name(node_type: str) -> str:
    """Return the name of a node type's actor, which is also the name of its queue."""
    return f"node.{node_type}"


def actor_job(
    subjects: Subjects, tenant: str, state: ExecutionState, step_id: str
) -> OutgoingJob | None:
    """Return the message for a step that waits for an actor, or None for any other step.

    Every driver of the execution may send it again. JetStream deduplicates it by its id until
    another command is appended to the execution: after a pause, when actors may have dropped the
    message, it has a new id. A duplicate that gets through starts nothing.
    """
    step = state.steps.get(step_id)
    if step is None or step.waiting is None or step.waiting.wait != "actor":
        return None
    job = ActorJob(tenant, state.execution_id, step_id, step.node_type, step.attempt + 1)
    message_id = f"{tenant}.{state.execution_id}.{step_id}.{job.attempt}.{len(state.commands)}"
    return message_for(subjects, job)._replace(headers={"Nats-Msg-Id": message_id})


def message_for(subjects: Subjects, job: ActorJob) -> OutgoingJob:
    """Return a message without an id, which JetStream never deduplicates."""
    name = actor_name(job.node_type)
    message = JobMessage(queue_name=name, actor_name=name, args=list(job), options=trace_options())
    return OutgoingJob(subjects.job(name), msgspec.json.encode(message), {})


def watch_for(subjects: Subjects, job: ActorJob, when: float) -> OutgoingJob:
    """Return a message that is delivered later, and replaces an earlier one for the same attempt.

    Args:
        when: time of delivery, in seconds since the epoch.
    """
    schedule = hashlib.sha256(".".join(map(str, job)).encode()).hexdigest()[:40]
    message = message_for(subjects, job)
    return OutgoingJob(
        subjects.job_at(actor_name(job.node_type), schedule),
        message.payload,
        at_headers(when, target=message.subject),
    )
