"""Create, compare and update the streams and buckets of an installation.

Services call :func:`ensure` at every start. It creates what is missing and accepts what exists if a
service can work with it, so neighbouring versions of Tailrace run beside each other. It refuses
only what would lose or corrupt data. An operator calls :func:`plan` and :func:`apply`, by
``tailrace topology``, to bring the streams to the version of this release, or back.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.errors import (
    JetStreamError,
    TemporarilyUnavailableError,
    TopologyMismatchError,
    UnavailableError,
)
from tailrace_shared.nats.jetstream import STREAM_NAME_IN_USE, STREAM_NOT_FOUND, JetStream
from tailrace_shared.nats.topology import EPOCH_KEY, LOST_KEY, VERSION_KEY, StreamSpec

# A server that is busy, or low on memory or file descriptors, may fail to open the files of a new
# stream, and succeed a moment later.
_STORE_NOT_CREATED: Final = 10049

# JetStream does not change these on a stream that exists.
_IMMUTABLE: Final = frozenset({"retention", "storage"})
# A difference in one of these changes how long data lives or how many copies it has, not what a
# service may rely on.
_TOLERATED: Final = frozenset(
    {"num_replicas", "max_age", "max_bytes", "duplicate_window", "discard", "deny_delete"}
)


# JetStream reserves the space that a stream may take, on a server and for an account.
_NO_SPACE: Final = re.compile("insufficient storage|limits exceeded for account")


class Difference(NamedTuple):
    """A field of a stream that is not as the topology describes it.

    Attributes:
        field: the field, as JetStream names it.
    """

    stream: str
    field: str
    found: Any
    wanted: Any

    @property
    def is_harmful(self) -> bool:
        """Whether a service must not run on such a stream."""
        match self.field:
            case "subjects":
                return not set(self.wanted) <= set(self.found)
            case "retention" | "storage" | "republish" | "max_msgs_per_subject":
                return True
            case field if field in _TOLERATED:
                return False
        # The rest are switches: one that is on and not needed does no harm.
        return bool(self.wanted)

    def __str__(self) -> str:
        found, wanted = _text(self.field, self.found), _text(self.field, self.wanted)
        return f"stream {self.stream}: {self.field} {found} -> {wanted}"


class Change(NamedTuple):
    """One step of a plan.

    Attributes:
        spec: the stream as it is to be.
        differences: what changes; empty if the stream is created.
        config: the stream's configuration now; None if it is created.
    """

    spec: StreamSpec
    differences: tuple[Difference, ...] = ()
    config: dict[str, Any] | None = None

    @property
    def frees_space(self) -> bool:
        """Whether JetStream reserves less for the stream afterwards."""
        reserved = 0 if self.config is None else self.config.get("max_bytes", -1)
        return 0 <= self.spec.max_bytes < reserved

    @property
    def conflicts(self) -> list[Difference]:
        """The differences that JetStream cannot change."""
        return [each for each in self.differences if each.field in _IMMUTABLE]

    def lines(self) -> Iterator[str]:
        if self.config is None:
            yield f"create stream {self.spec.name}"
        for each in self.differences:
            suffix = " (cannot be changed; delete the stream)" if each in self.conflicts else ""
            yield f"update {each}{suffix}"


async def ensure(jetstream: JetStream, specs: Iterable[StreamSpec]) -> list[Difference]:
    """Create missing streams and check those that exist; return the differences that do no harm.

    Raises:
        TopologyMismatchError: naming the stream, the field, and both values.
    """
    tolerated: list[Difference] = []
    for spec in specs:
        info = await _create(jetstream, spec)
        if VERSION_KEY in spec.metadata:
            await _keep_epoch(jetstream, info)
        for each in differences(spec, info["config"]):
            if each.is_harmful:
                raise TopologyMismatchError(
                    f"stream {each.stream} exists with {each.field} = {each.found}, but Tailrace "
                    f"needs {each.wanted}: run `tailrace topology plan`"
                )
            tolerated.append(each)
    return tolerated


async def plan(jetstream: JetStream, specs: Iterable[StreamSpec]) -> list[Change]:
    """Return the steps that bring JetStream to ``specs``; empty if it is there already.

    Raises:
        TopologyMismatchError: a stream holds more than it may.
    """
    changes: list[Change] = []
    for spec in specs:
        info = await _info(jetstream, spec.name)
        if info is None:
            changes.append(Change(spec))
        elif found := (*differences(spec, info["config"]), *_version(spec, info["config"])):
            _check_space(spec, info["state"]["bytes"])
            changes.append(Change(spec, found, info["config"]))
    return changes


def _check_space(spec: StreamSpec, used: int) -> None:
    if 0 <= spec.max_bytes < used:
        raise TopologyMismatchError(
            f"stream {spec.name} holds {used} bytes, which is more than its share of "
            f"TAILRACE_MAX_STORE_BYTES, {spec.max_bytes}: raise the setting"
        )


async def apply(jetstream: JetStream, changes: Sequence[Change]) -> None:
    """Carry out a plan, stream by stream. A plan may be applied again.

    Raises:
        TopologyMismatchError: JetStream refused a change, or cannot make it; nothing before it is
            undone.
    """
    check_possible(changes)
    # First those that free space, which the others may need.
    for change in sorted(changes, key=lambda change: not change.frees_space):
        try:
            if change.config is None:
                await ensure(jetstream, [change.spec])
            else:
                await _update(jetstream, change)
        except JetStreamError as error:
            raise TopologyMismatchError(
                f"cannot change stream {change.spec.name}: {error}"
            ) from None
        except UnavailableError as error:
            if not _NO_SPACE.search(str(error)):
                raise
            raise TopologyMismatchError(
                f"cannot change stream {change.spec.name}: NATS has less space than the setting "
                f"TAILRACE_MAX_STORE_BYTES asks for ({error}): lower the setting, or raise the "
                "limit of NATS"
            ) from None


def check_possible(changes: Iterable[Change]) -> None:
    """Check that JetStream can carry out a plan.

    Raises:
        TopologyMismatchError: JetStream cannot change a field.
    """
    for change in changes:
        if conflicts := change.conflicts:
            raise TopologyMismatchError(f"{conflicts[0]}: JetStream cannot change this field")


def differences(spec: StreamSpec, config: dict[str, Any]) -> Iterator[Difference]:
    """Yield the fields in which a stream's configuration differs from its description."""
    for field, wanted in msgspec.to_builtins(spec).items():
        found = config.get(field)
        # A duplicate window that the topology does not set is the server's to choose.
        is_chosen = wanted or field != "duplicate_window"
        if field != "metadata" and is_chosen and (found or None) != (wanted or None):
            yield Difference(spec.name, field, found, wanted)


def version_of(config: dict[str, Any]) -> int:
    """Return the version of the topology that the configuration of EVENTS records."""
    return int(config.get("metadata", {}).get(VERSION_KEY, 1))


def epoch_of(info: dict[str, Any]) -> str:
    """Return the epoch of the ids of a stream, from the answer to a ``STREAM.INFO`` request."""
    metadata: dict[str, str] = info["config"].get("metadata") or {}
    return metadata.get(EPOCH_KEY) or _created(info)


def lost_of(info: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of sequences that restores have skipped, first and last of each."""
    metadata: dict[str, str] = info["config"].get("metadata") or {}
    ranges = (text.partition("-") for text in metadata.get(LOST_KEY, "").split(",") if text)
    return tuple((int(first), int(last)) for first, _, last in ranges)


def _created(info: dict[str, Any]) -> str:
    # The epoch of Tailrace 0.2, in milliseconds.
    return f"{int(datetime.fromisoformat(info['created']).timestamp() * 1000):x}"


async def _create(jetstream: JetStream, spec: StreamSpec) -> dict[str, Any]:
    """Return the stream that has a name; create it if there is none.

    A service may lack the permission to create streams.
    """
    info = await _info(jetstream, spec.name)
    if info is not None:
        return info
    try:
        return await jetstream.api(f"STREAM.CREATE.{spec.name}", spec.request())
    except UnavailableError as error:
        if spec.max_bytes < 0 or not _NO_SPACE.search(str(error)):
            raise
        # This NATS has less space than the limit, so that its own limit is the one that counts.
        return await _create(jetstream, msgspec.structs.replace(spec, max_bytes=-1))
    except JetStreamError as error:
        if error.code == _STORE_NOT_CREATED:
            raise TemporarilyUnavailableError(f"stream {spec.name}: {error}") from None
        if error.code != STREAM_NAME_IN_USE:
            raise TopologyMismatchError(f"cannot create stream {spec.name}: {error}") from None
        info = await _info(jetstream, spec.name)
        if info is None:
            # Another service is creating it, and the cluster has assigned it to no leader yet.
            raise TemporarilyUnavailableError(f"stream {spec.name} is being created") from None
        return info


async def _info(jetstream: JetStream, stream: str) -> dict[str, Any] | None:
    try:
        return await jetstream.api(f"STREAM.INFO.{stream}")
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        return None


async def _keep_epoch(jetstream: JetStream, info: dict[str, Any]) -> None:
    """Record the stream's epoch in its metadata, unless it is there.

    The first epoch is the time of creation, so services that start together record the same one.
    """
    config = info["config"]
    metadata: dict[str, str] = config.get("metadata") or {}
    if EPOCH_KEY not in metadata:
        metadata = {**without_server_metadata(metadata), EPOCH_KEY: _created(info)}
        body = {**config, "metadata": metadata}
        await jetstream.api(f"STREAM.UPDATE.{config['name']}", body)


async def _update(jetstream: JetStream, change: Change) -> None:
    # The newest configuration, because another service may have recorded the epoch meanwhile.
    info = await jetstream.api(f"STREAM.INFO.{change.spec.name}")
    config = info["config"]
    wanted = msgspec.to_builtins(change.spec)
    fields = {each.field: wanted[each.field] for each in change.differences}
    metadata = without_server_metadata(config.get("metadata") or {}) | change.spec.metadata
    if change.spec.metadata:
        metadata.setdefault(EPOCH_KEY, _created(info))
    body = {**config, **fields, "metadata": metadata}
    await jetstream.api(f"STREAM.UPDATE.{change.spec.name}", body)


def _version(spec: StreamSpec, config: dict[str, Any]) -> Iterator[Difference]:
    wanted = spec.metadata.get(VERSION_KEY)
    if wanted is not None and version_of(config) != int(wanted):
        yield Difference(
            spec.name, "metadata", {VERSION_KEY: str(version_of(config))}, spec.metadata
        )


def without_server_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return metadata without the server's own entries, which it refuses in a request."""
    return {name: value for name, value in metadata.items() if not name.startswith("_nats.")}


def _text(field: str, value: Any) -> str:
    match field, value:
        case "max_age" | "duplicate_window", int(nanoseconds):
            return f"{nanoseconds / 1e9:g}s" if nanoseconds else "unlimited"
        case "metadata", dict():
            return f"version {value.get(VERSION_KEY, '1')}"
    return msgspec.json.encode(value).decode()
