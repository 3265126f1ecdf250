"""Encode Dramatiq messages without Dramatiq, which the API does not depend on.

The API enqueues ``advance``, the actor that drives an execution, and stores schedules that enqueue
``start_scheduled``. The messages are those that Dramatiq's own encoder would write, so the worker's
broker treats them alike.
"""

import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import uuid_utils

from tailrace_shared.process.tracing import current_traceparent
from tailrace_shared.recurrence import with_seconds

EXECUTIONS_QUEUE: Final = "executions"
ADVANCE_ACTOR: Final = "advance"
START_SCHEDULED_ACTOR: Final = "start_scheduled"
TRIGGERS_QUEUE: Final = "triggers"
"""The queue of triggers that are being delivered. Workers of version 0.2 do not consume it."""
DELIVER_TRIGGER_ACTOR: Final = "deliver_trigger"
RUN_INPUT: Final = "run_input"
"""The option that carries a scheduled run's input: Dramatiq logs arguments, but not options."""
RUN_CRON: Final = "run_cron"
"""The option that carries the pattern of a schedule as it was given: NATS gets seconds as well."""

OVERLAP: Final = "overlap"
"""The option that says what happens while another run of the same schedule is active."""

TIME_ZONE: Final = "time_zone"
"""The option that carries the time zone of a paused schedule."""
PAUSED: Final = "paused"
"""The option that says that a schedule does not fire."""
SINCE: Final = "since"
"""The option that says when a schedule was resumed, in seconds since the epoch."""

TRACEPARENT: Final = "traceparent"
"""The option that names the span which published a message."""

OVERTAKES: Final = "overtakes"
"""The option of a job that does not wait while its tenant has its fair share of the workers."""


class JobMessage(msgspec.Struct, kw_only=True):
    """A Dramatiq message, with the fields of ``dramatiq.Message.asdict``."""

    queue_name: str
    actor_name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    message_id: str = msgspec.field(default_factory=lambda: str(uuid_utils.uuid4()))
    message_timestamp: int = msgspec.field(default_factory=lambda: int(time.time() * 1000))


def advance_job(tenant: str, execution: str, *, overtakes: bool = False) -> bytes:
    """Return the message that makes a worker drive an execution.

    Args:
        tenant: the tenant of the execution.
        execution: its id.
        overtakes: whether it must not wait behind other jobs of the tenant.
    """
    options: dict[str, Any] = {OVERTAKES: True} if overtakes else {}
    return msgspec.json.encode(
        JobMessage(
            queue_name=EXECUTIONS_QUEUE,
            actor_name=ADVANCE_ACTOR,
            args=[tenant, execution],
            options=options | trace_options(),
        )
    )


def deliver_trigger_job(tenant: str, sequence: int) -> bytes:
    """Return the message that makes a worker deliver a stored trigger."""
    return msgspec.json.encode(
        JobMessage(
            queue_name=TRIGGERS_QUEUE,
            actor_name=DELIVER_TRIGGER_ACTOR,
            args=[tenant, sequence],
            options=trace_options(),
        )
    )


def trace_options() -> dict[str, str]:
    """Return the option that links the actor of a message to the current span, if there is one."""
    parent = current_traceparent()
    return {TRACEPARENT: parent} if parent else {}


def at_headers(when: float, *, target: str) -> dict[str, str]:
    """Return the headers with which JetStream holds a message until ``when`` (ADR-51).

    The message is stored under a schedule subject and moved to ``target`` at that Unix time. A
    later message under the same schedule subject replaces it.
    """
    moment = datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
    return {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": target}


def recurring_headers(pattern: str, *, target: str, time_zone: str | None = None) -> dict[str, str]:
    """Return the headers with which JetStream repeatedly publishes a message to ``target``.

    ``pattern`` is ``@every 5m``, a cron line of five or six fields (seconds first) or a name like
    ``@hourly``; a cron line is evaluated in ``time_zone`` (IANA name; UTC if None).
    """
    headers = {"Nats-Schedule": with_seconds(pattern), "Nats-Schedule-Target": target}
    if time_zone is not None:
        headers["Nats-Schedule-Time-Zone"] = time_zone
    return headers


def paused_headers() -> dict[str, str]:
    """Return the headers with which a message replaces a schedule, and is published nowhere."""
    return {"Nats-Rollup": "sub"}


def firing_id(headers: dict[str, str]) -> str | None:
    """Return the id of a recurring schedule's firing from the headers of its message.

    The id is derived from the schedule and the time of the firing. It is the same for every
    delivery of one firing, and for both copies if a failing server publishes a firing twice.
    Returns None for a message that no recurring schedule published.
    """
    following = headers.get("Nats-Schedule-Next", "purge")
    if following == "purge":  # a delayed message: its schedule ended with it
        return None
    return id_of_firing(headers["Nats-Scheduler"], following)


def id_of_firing(schedule: str, following: str) -> str:
    """Return the id of a firing.

    Args:
        schedule: the subject of the schedule.
        following: the time of the next firing, as NATS writes it.
    """
    return str(uuid_utils.uuid5(uuid_utils.NAMESPACE_URL, f"{schedule}@{following}"))
