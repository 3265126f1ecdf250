"""The streams and buckets of an installation, as data.

The topology has a version. Version 1 is that of Tailrace 0.2: the log and its indexes expire by
age. In version 2 nothing of an execution expires by age; the engine deletes it once the retention
after its end is over. ``provision`` creates, compares and updates what is described here.
"""

from typing import Any, Final

import msgspec

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
MESSAGE_RATE: Final = "MESSAGE_RATE"
DESCENDANTS: Final = "DESCENDANTS"
HORIZONS: Final = "horizons"
STARTS: Final = "STARTS"

TOPOLOGY_VERSION: Final = 2
"""The version that this release describes and prefers. It also runs on version 1."""

VERSION_KEY: Final = "tailrace-topology"
"""Where the stream EVENTS records the version of the topology, in its metadata."""
EPOCH_KEY: Final = "tailrace-epoch"
"""Where the stream EVENTS records the epoch of its ids, in its metadata.

Stream metadata survives a backup and a restore, which change the time of creation.
"""
LOST_KEY: Final = "tailrace-lost"
"""Where the stream EVENTS records the sequences that a restore has skipped, in its metadata.

Ids with these sequences were given out after the backup, for commits that are lost.
"""

_DAY: Final = 86400

# The share of each stream of the space for all, in 1024ths. A million small runs take about 820 MB
# of EVENTS, 420 of ``runs`` and 160 of STARTS. JOBS has no limit: JetStream schedules no messages
# in a stream that refuses new ones, and a stream that drops old ones loses jobs.
_SHARES: Final = {
    EVENTS: 416,
    OUTPUTS: 224,
    RUNS: 144,
    STARTS: 64,
    TRIGGERS: 32,
    WAITING: 32,
    IDEMPOTENCY: 16,
    WORKFLOWS: 16,
    DEAD: 16,
    LINES: 8,
    DUE: 8,
    LIVE: 8,
    STATS: 8,
    CONCURRENCY: 4,
    LEASES: 4,
    RESULTS: 4,
    HORIZONS: 4,
    NODE_TYPES: 4,
    KEYS: 1,
}


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one stream. Field names are those of JetStream's API (ADR-8, 31)."""

    name: str
    subjects: list[str]
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    discard_new_per_subject: bool = False
    num_replicas: int = 1
    max_age: int = 0
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    duplicate_window: int = 0
    allow_direct: bool = False
    allow_rollup_hdrs: bool = False
    allow_msg_ttl: bool = False
    allow_msg_schedules: bool = False
    deny_delete: bool = False
    republish: dict[str, str] | None = None
    metadata: dict[str, str] = {}

    def request(self) -> dict[str, Any]:
        """Return the body of a stream create request."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        # Fields left at the server's own default stay out, so that the server fills them in.
        return {key: value for key, value in body.items() if value not in (None, 0, False, {})}


def topology(settings: CommonSettings, version: int = TOPOLOGY_VERSION) -> list[StreamSpec]:
    """Return all streams and buckets of the installation that ``settings`` describe.

    Args:
        settings: the prefix, the number of replicas and, for version 1, the retention.
        version: 1 (Tailrace 0.2) or 2.
    """
    subjects = Subjects(settings.prefix)
    prefix, replicas = settings.prefix, settings.nats_replicas
    # Seconds after which JetStream itself deletes what belongs to an execution; 0: never.
    expiry = settings.events_max_age if version == 1 else 0.0
    space = settings.max_store_bytes if version > 1 else 0

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
            max_age=nanoseconds(expiry),
            # A message that is sent again takes the place of its first copy.
            max_msgs_per_subject=1,
            duplicate_window=nanoseconds(min(1.0, expiry or 1.0)),
            allow_direct=True,
        )

    starts = StreamSpec(
        name=subjects.stream(STARTS),
        subjects=[f"{prefix}.starts.*.*", f"{prefix}.starts.*.*.*"],
        num_replicas=replicas,
        # A client that got no answer may repeat a start for this long.
        duplicate_window=nanoseconds(60),
        allow_direct=True,
    )
    specs = [
        StreamSpec(
            name=subjects.stream(EVENTS),
            subjects=[f"{prefix}.log.*.*"],
            num_replicas=replicas,
            max_age=nanoseconds(expiry),
            # Commits carry their own ids and fences; the server need not remember any.
            duplicate_window=nanoseconds(min(1.0, expiry or 1.0)),
            allow_direct=True,
            republish={"src": f"{prefix}.log.>", "dest": f"{prefix}.live.>"},
            metadata={VERSION_KEY: str(version)},
        ),
        *job_streams(prefix, replicas),
        # A run keeps the version it started with, so old versions must stay readable.
        bucket(WORKFLOWS, history=1000),
        bucket(RUNS, max_age_seconds=expiry),
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
        bucket(WAITING, max_age_seconds=expiry),
        bucket(DUE, max_age_seconds=expiry),
        bucket(CONCURRENCY, max_age_seconds=expiry),
        bucket(LEASES),
        # A workflow that has not run for so long is like a new one.
        bucket(STATS, max_age_seconds=90 * _DAY),
        bucket(LIVE, max_age_seconds=expiry),
        bucket(RESULTS),
        bucket(KEYS),
        *([bucket(HORIZONS), starts] if version > 1 else []),
    ]
    return _bounded(specs, subjects, space)


def _bounded(specs: list[StreamSpec], subjects: Subjects, space: int) -> list[StreamSpec]:
    """Limit streams to their shares of some space. A full one refuses messages, and loses none."""
    if not space:
        return specs
    shares = {subjects.stream(root): share for root, share in _SHARES.items()}
    bounded: list[StreamSpec] = []
    for spec in specs:
        share = shares.get(spec.name.removeprefix("KV_"))
        if share is not None:
            limit = space * share // 1024
            spec = msgspec.structs.replace(spec, max_bytes=limit, discard="new")  # noqa: PLW2901
        bounded.append(spec)
    return bounded


def job_streams(prefix: str, replicas: int = 1, space: int = 0) -> list[StreamSpec]:
    """Return the streams of the Dramatiq broker: the work queue and the dead letters.

    Args:
        prefix: the first token of their subjects.
        replicas: how many copies NATS keeps.
        space: the bytes for all streams of the installation, of which each has a share; 0 for no
            limit.
    """
    subjects = Subjects(prefix)
    specs = [
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
    return _bounded(specs, subjects, space)


def nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
