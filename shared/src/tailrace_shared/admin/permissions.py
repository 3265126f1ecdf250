"""The least permissions in NATS of each service, and of operators.

They assume that an operator has applied the topology: a service with these permissions creates no
stream, except those that count.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.admin.backups.snapshots import GAP
from tailrace_shared.nats import topology
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE
from tailrace_shared.nats.topology import DESCENDANTS, MESSAGE_RATE, RATE
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

_INDENT: Final = "    "

_BUCKETS: Final = (
    topology.WORKFLOWS,
    topology.RUNS,
    topology.IDEMPOTENCY,
    topology.NODE_TYPES,
    topology.WAITING,
    topology.DUE,
    topology.CONCURRENCY,
    topology.LEASES,
    topology.STATS,
    topology.LIVE,
    topology.RESULTS,
    topology.KEYS,
    topology.HORIZONS,
)
_STREAMS: Final = (
    topology.EVENTS,
    topology.JOBS,
    topology.DEAD,
    topology.TRIGGERS,
    topology.OUTPUTS,
    topology.LINES,
    topology.STARTS,
)


_COUNTING: Final = (RATE, MESSAGE_RATE, DESCENDANTS)
# What the command restore writes, beside whole streams.
_REBUILT: Final = (
    *(topology.STARTS, topology.RUNS, topology.LIVE, topology.DUE, topology.RESULTS),
)


class Role(NamedTuple):
    """The use that one service makes of the streams and buckets.

    Attributes:
        name: the name of the service, as in its inboxes.
        reads: the streams and buckets whose messages it reads.
        writes: the streams and buckets that it writes. A service also purges these: it removes what
            is done, and asks a stream that has refused a message for the reason by a purge that
            matches nothing.
        deletes: further streams of which it deletes or purges messages.
        counts: the streams that it creates and updates, because they have a limit of its settings.
        publishes: further subjects, below the prefix.
        subscribes: the subjects below the prefix.
        lists: the streams whose consumers it lists, to measure their backlogs.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    deletes: tuple[str, ...]
    counts: tuple[str, ...]
    publishes: tuple[str, ...]
    subscribes: tuple[str, ...]
    lists: tuple[str, ...] = ()


_API: Final = Role(
    name="api",
    reads=(*_STREAMS, RATE, MESSAGE_RATE, *_BUCKETS),
    writes=(
        *(topology.EVENTS, topology.JOBS, topology.TRIGGERS, topology.STARTS),
        *(RATE, MESSAGE_RATE),
        *(topology.WORKFLOWS, topology.IDEMPOTENCY, topology.WAITING, topology.DUE),
        *(topology.LEASES, topology.LIVE, topology.KEYS),
    ),
    deletes=(topology.DEAD,),
    counts=(RATE, MESSAGE_RATE),
    publishes=("api.clients",),
    lists=(topology.JOBS,),
    subscribes=("live.>", "components", "api.clients"),
)
_WORKER: Final = Role(
    name="worker",
    # The bucket of keys has the key that signs tickets.
    reads=(*_STREAMS, *(name for name in _BUCKETS if name != topology.KEYS)),
    writes=(
        *(*_STREAMS, DESCENDANTS),
        *(name for name in _BUCKETS if name not in {topology.KEYS, topology.WORKFLOWS}),
    ),
    deletes=(),
    counts=(DESCENDANTS,),
    publishes=("worker.>",),
    subscribes=("live.>", "components", "worker.>"),
)


class Permissions(NamedTuple):
    """The subjects that a user of NATS may use.

    Attributes:
        publish: subjects to which it may publish. It may also answer each request once.
        subscribe: subjects that it may subscribe.
    """

    publish: list[str]
    subscribe: list[str]


def permissions_of(settings: CommonSettings) -> dict[str, Permissions]:
    """Return the least permissions of the users ``api``, ``worker`` and ``admin``."""
    subjects = Subjects(settings.prefix)
    return {
        "api": Permissions([*_of_role(subjects, _API)], _subscriptions(subjects, _API)),
        "worker": Permissions(
            [*_of_role(subjects, _WORKER), *_consuming(subjects)],
            _subscriptions(subjects, _WORKER),
        ),
        "admin": Permissions([*_of_admin(subjects)], [f"{subjects.inboxes('admin')}.>"]),
    }


def configuration(settings: CommonSettings) -> str:
    """Return the permissions as variables for the configuration of nats-server."""
    blocks = [
        f"{name.upper()}_PERMISSIONS = {{\n"
        f"{_INDENT}publish: {{ allow: [\n{_lines(each.publish)}{_INDENT}] }}\n"
        f"{_INDENT}subscribe: {{ allow: [\n{_lines(each.subscribe)}{_INDENT}] }}\n"
        f"{_INDENT}allow_responses: true\n}}\n"
        for name, each in permissions_of(settings).items()
    ]
    return "".join(blocks)


async def command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Print the permissions."""
    if options.json:
        found = {name: each._asdict() for name, each in permissions_of(settings).items()}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        sys.stdout.write(configuration(settings))
    return 0


def _lines(subjects: Iterable[str]) -> str:
    return "".join(f'{_INDENT * 2}"{subject}"\n' for subject in subjects)


def _of_role(subjects: Subjects, role: Role) -> Iterator[str]:
    yield "$JS.API.INFO"
    for stream in _names(subjects, (*_STREAMS, *_BUCKETS)):
        yield f"$JS.API.STREAM.INFO.{stream}"
    for stream in _names(subjects, role.reads):
        yield from (f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}")
    for name in role.writes:
        yield _written(subjects, name)
    for stream in _names(subjects, (*role.writes, *role.deletes)):
        yield f"$JS.API.STREAM.PURGE.{stream}"
    for stream in _names(subjects, (*role.deletes, topology.STARTS)):
        yield f"$JS.API.STREAM.MSG.DELETE.{stream}"
    for stream in _names(subjects, role.counts):
        yield from (f"$JS.API.STREAM.{action}.{stream}" for action in ("CREATE", "UPDATE", "INFO"))
    for stream in _names(subjects, role.lists):
        yield f"$JS.API.CONSUMER.LIST.{stream}"
    yield from (f"{subjects.prefix}.{subject}" for subject in role.publishes)


def _consuming(subjects: Subjects) -> Iterator[str]:
    """Yield what the Dramatiq broker needs to take jobs."""
    jobs = subjects.stream(topology.JOBS)
    for action in ("CREATE", "INFO", "MSG.NEXT"):
        yield f"$JS.API.CONSUMER.{action}.{jobs}.>"
    yield f"$JS.ACK.{jobs}.>"


def _of_admin(subjects: Subjects) -> Iterator[str]:
    yield "$JS.API.INFO"
    for stream in _names(subjects, (*_STREAMS, *_COUNTING, *_BUCKETS)):
        yield f"$JS.API.STREAM.*.{stream}"
        yield from (f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}")
    for stream in _names(subjects, (*_STREAMS, *_BUCKETS)):
        yield from (f"$JS.SNAPSHOT.{action}.{stream}.>" for action in ("ACK", "RESTORE"))
    yield f"$JS.API.STREAM.*.{subjects.stream(GAP)}"
    yield f"$JS.API.STREAM.MSG.DELETE.{subjects.stream(topology.EVENTS)}"
    for name in _REBUILT:
        yield _written(subjects, name)
    yield subjects.job(EXECUTIONS_QUEUE)
    yield subjects.restore_gap()
    yield f"{subjects.prefix}.components"
    yield subjects.worker("*")


def _subscriptions(subjects: Subjects, role: Role) -> list[str]:
    return [
        f"{subjects.inboxes(role.name)}.>",
        *(f"{subjects.prefix}.{subject}" for subject in role.subscribes),
    ]


def _names(subjects: Subjects, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        stream = subjects.stream(name)
        yield f"KV_{stream}" if name in _BUCKETS else stream


def _written(subjects: Subjects, name: str) -> str:
    if name in _BUCKETS:
        return f"$KV.{subjects.stream(name)}.>"
    return f"{subjects.prefix}.{_ROOTS[name]}.>"


_ROOTS: Final[dict[str, Any]] = {
    topology.EVENTS: "log",
    topology.JOBS: "jobs",
    topology.DEAD: "dead",
    topology.TRIGGERS: "trigger",
    topology.OUTPUTS: "output",
    topology.LINES: "line",
    topology.STARTS: "starts",
    RATE: "rate",
    MESSAGE_RATE: "rate",
    DESCENDANTS: "descendants",
}
"""The second token of the subjects of each stream."""
