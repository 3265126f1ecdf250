"""The streams and buckets of an installation, as data, and how that data is applied.

Services apply it at every start. Creating what exists with the same configuration changes
nothing; anything else that exists under a name of ours is reported, never altered.
"""

from typing import Any, Final

import msgspec

from tailrace_shared.errors import JetStreamError, TopologyMismatchError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

EVENTS: Final = "EVENTS"
JOBS: Final = "JOBS"
DEAD: Final = "DEAD"
WORKFLOWS: Final = "workflows"
RUNS: Final = "runs"
IDEMPOTENCY: Final = "idempotency"
NODE_TYPES: Final = "node_types"
TRIGGERS: Final = "TRIGGERS"
OUTPUTS: Final = "OUTPUTS"
LINES: Final = "LINES"
WAITING: Final = "waiting"
DUE: Final = "due"
CONCURRENCY: Final = "concurrency"
LEASES: Final = "leases"
STATS: Final = "stats"
LIVE: Final = "live"
RESULTS: Final = "pipelines"
KEYS: Final = "keys"
RATE: Final = "RATE"

NAME_IN_USE: Final = 10058
_DAY: Final = 86400


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What Tailrace needs of one stream. Field names are those of JetStream's API (ADR-8, 31)."""

    name: str
    subjects: list[str]
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    discard_new_per_subject: bool = False
    num_replicas: int = 1
    max_age: int = 0
    max_msgs_per_subject: int = -1
    duplicate_window: int = 0
    allow_direct: bool = False
    allow_rollup_hdrs: bool = False
    allow_msg_ttl: bool = False
    allow_msg_schedules: bool = False
    deny_delete: bool = False
    republish: dict[str, str] | None = None

    def request(self) -> dict[str, Any]:
        """Return the body of a stream create request."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        # Fields left at the server's own default stay out, so that the server fills them in.
        return {key: value for key, value in body.items() if value not in (None, 0, False)}


def topology(settings: CommonSettings) -> list[StreamSpec]:
    """Return all streams and buckets of the installation that ``settings`` describe."""
    subjects = Subjects(settings.prefix)
    prefix, replicas = settings.prefix, settings.nats_replicas

    def bucket(name: str, *, history: int = 1, max_age_seconds: float = 0) -> StreamSpec:
        # A key-value bucket is a stream with these settings (ADR-8).
        bucket_name = subjects.stream(name)
        max_age = nanoseconds(max_age_seconds)
        return StreamSpec(
            name=f"KV_{bucket_name}",
            subjects=[f"$KV.{bucket_name}.>"],
            discard="new",
            num_replicas=replicas,
            max_age=max_age,
            max_msgs_per_subject=history,
            duplicate_window=min(max_age or nanoseconds(120), nanoseconds(120)),
            allow_direct=True,
            allow_rollup_hdrs=True,
            deny_delete=True,
        )

    def newest_only(name: str, pattern: str) -> StreamSpec:
        return StreamSpec(
            name=subjects.stream(name),
            subjects=[pattern],
            num_replicas=replicas,
            max_age=nanoseconds(settings.events_max_age),
            # A message that is sent again takes the place of its first copy.
            max_msgs_per_subject=1,
            duplicate_window=nanoseconds(min(1.0, settings.events_max_age)),
            allow_direct=True,
        )

    return [
        StreamSpec(
            name=subjects.stream(EVENTS),
            subjects=[f"{prefix}.log.*.*"],
            num_replicas=replicas,
            max_age=nanoseconds(settings.events_max_age),
            # Commits carry their own ids and fences; the server need not remember any.
            duplicate_window=nanoseconds(min(1.0, settings.events_max_age)),
            allow_direct=True,
            republish={"src": f"{prefix}.log.>", "dest": f"{prefix}.live.>"},
        ),
        *job_streams(settings.prefix, settings.nats_replicas),
        # A run keeps the version it started with, so old versions must stay readable.
        bucket(WORKFLOWS, history=1000),
        bucket(RUNS, max_age_seconds=settings.events_max_age),
        bucket(IDEMPOTENCY, max_age_seconds=_DAY),
        bucket(NODE_TYPES),
        StreamSpec(
            name=subjects.stream(TRIGGERS),
            subjects=[f"{prefix}.trigger.*.>"],
            num_replicas=replicas,
            max_age=nanoseconds(_DAY),
            # A step that emits may be tried again for this long before its trigger counts twice.
            duplicate_window=nanoseconds(600),
            allow_direct=True,
        ),
        newest_only(OUTPUTS, f"{prefix}.output.*.*.*.*"),
        newest_only(LINES, f"{prefix}.line.*.*.*"),
        # What these say of an execution is of no use when its log has expired.
        bucket(WAITING, max_age_seconds=settings.events_max_age),
        bucket(DUE, max_age_seconds=settings.events_max_age),
        bucket(CONCURRENCY, max_age_seconds=settings.events_max_age),
        bucket(LEASES),
        # A workflow that has not run for so long is like a new one.
        bucket(STATS, max_age_seconds=90 * _DAY),
        bucket(LIVE, max_age_seconds=settings.events_max_age),
        bucket(RESULTS),
        bucket(KEYS),
    ]


def job_streams(prefix: str, replicas: int = 1) -> list[StreamSpec]:
    """Return the streams of the Dramatiq broker: the work queue and the dead letters."""
    subjects = Subjects(prefix)
    return [
        StreamSpec(
            name=subjects.stream(JOBS),
            subjects=[f"{prefix}.jobs.>"],
            retention="workqueue",
            num_replicas=replicas,
            # Longer than any enqueue retries; the server holds every id of the window in memory.
            duplicate_window=nanoseconds(60),
            allow_direct=True,
            allow_rollup_hdrs=True,
            allow_msg_ttl=True,
            allow_msg_schedules=True,
        ),
        StreamSpec(
            name=subjects.stream(DEAD),
            subjects=[f"{prefix}.dead.>"],
            num_replicas=replicas,
            max_age=nanoseconds(7 * _DAY),
            duplicate_window=nanoseconds(120),
            allow_direct=True,
        ),
    ]


async def apply_topology(jetstream: JetStream, specs: list[StreamSpec]) -> None:
    """Create what is missing and compare what exists.

    Raises:
        TopologyMismatchError: naming the stream, the field, and both values.
        UnavailableError: if JetStream does not answer.
    """
    for spec in specs:
        try:
            await jetstream.api(f"STREAM.CREATE.{spec.name}", spec.request())
        except JetStreamError as error:
            if error.code != NAME_IN_USE:
                raise TopologyMismatchError(f"cannot create stream {spec.name}: {error}") from None
            await _compare(jetstream, spec)


async def _compare(jetstream: JetStream, spec: StreamSpec) -> None:
    info = await jetstream.api(f"STREAM.INFO.{spec.name}")
    for field, wanted in msgspec.to_builtins(spec).items():
        found = info["config"].get(field)
        # A duplicate window that is not asked for is the server's to choose.
        is_chosen = wanted or field != "duplicate_window"
        if is_chosen and (found or None) != (wanted or None):
            raise TopologyMismatchError(
                f"stream {spec.name} exists with {field} = {found}, but the settings ask for "
                f"{wanted}: change the setting, or run `nats stream edit {spec.name}`"
            )


def nanoseconds(seconds: float) -> int:
    """Return a time as JetStream takes it."""
    return int(seconds * 1_000_000_000)
