"""Jobs: how a Dramatiq message is put on JetStream by those who do not carry Dramatiq.

The API enqueues ``advance``, the actor that drives an execution, and has ``start_scheduled``
enqueued by schedules; their messages are those that Dramatiq's own encoder would write, so the
worker's broker cannot tell the difference.
"""

import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import uuid_utils

EXECUTIONS_QUEUE: Final = "executions"
ADVANCE_ACTOR: Final = "advance"
START_SCHEDULED_ACTOR: Final = "start_scheduled"
#: The option that carries a scheduled run's input. Dramatiq writes arguments to its log, and an
#: input does not belong there.
RUN_INPUT: Final = "run_input"


class JobMessage(msgspec.Struct, kw_only=True):
    """A Dramatiq message, field by field as ``dramatiq.Message.asdict`` gives it."""

    queue_name: str
    actor_name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    message_id: str = msgspec.field(default_factory=lambda: str(uuid_utils.uuid4()))
    message_timestamp: int = msgspec.field(default_factory=lambda: int(time.time() * 1000))


def advance_job(tenant: str, execution: str) -> bytes:
    """Return the message that makes a worker drive an execution on."""
    return msgspec.json.encode(
        JobMessage(queue_name=EXECUTIONS_QUEUE, actor_name=ADVANCE_ACTOR, args=[tenant, execution])
    )


def at_headers(when: float, *, target: str) -> dict[str, str]:
    """Return the headers with which JetStream keeps a message until ``when`` (ADR-51).

    The message is stored under a schedule subject of its own and moved to ``target`` at that Unix
    time; storing another under the same schedule subject replaces it.
    """
    moment = datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
    return {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": target}


def recurring_headers(pattern: str, *, target: str, time_zone: str | None = None) -> dict[str, str]:
    """Return the headers with which JetStream puts a copy of a message on ``target`` repeatedly.

    ``pattern`` is ``@every 5m``, a cron line of six fields (seconds first) or a name like
    ``@hourly``; cron lines are meant in ``time_zone`` (IANA name, UTC if none).
    """
    headers = {"Nats-Schedule": pattern, "Nats-Schedule-Target": target}
    if time_zone is not None:
        headers["Nats-Schedule-Time-Zone"] = time_zone
    return headers


def firing_id(headers: dict[str, str]) -> str | None:
    """Return the id of a recurring schedule's firing, from the headers of the message it put out.

    It names the schedule and the firing's place in time, so it is the same for every delivery of
    one firing, and for two copies should a failing server put out a firing twice. None if the
    message comes from no recurring schedule.
    """
    following = headers.get("Nats-Schedule-Next", "purge")
    if following == "purge":  # a delayed message: its schedule is gone with it
        return None
    return str(
        uuid_utils.uuid5(uuid_utils.NAMESPACE_URL, f"{headers['Nats-Scheduler']}@{following}")
    )
