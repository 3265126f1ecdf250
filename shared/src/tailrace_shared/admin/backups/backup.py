"""``tailrace backup``: write all that cannot be derived to one encrypted file.

The streams are taken one after the other, while services run. The log comes first: a restore
ignores what the later ones know and the log does not. Outputs and definitions come last, so that
everything that the log refers to is there.
"""

import argparse
import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tailrace_shared.admin.backups.archive import FORMAT, ArchiveWriter, Manifest, StoredStream
from tailrace_shared.admin.backups.snapshots import take
from tailrace_shared.nats import topology
from tailrace_shared.nats.components import running_version
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import epoch_of, without_server_metadata
from tailrace_shared.nats.topology import EPOCH_KEY
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

STREAMS: Final = (
    *(topology.EVENTS, topology.JOBS, topology.LINES, topology.DEAD),
    *(topology.IDEMPOTENCY, topology.CONCURRENCY, topology.LEASES, topology.TRIGGERS),
    *(topology.HORIZONS, topology.STATS, topology.KEYS, topology.NODE_TYPES),
    *(topology.OUTPUTS, topology.WORKFLOWS),
)
"""The streams of a backup, in the order in which they are taken. The rest follows from the log."""

_SUFFIX: Final = ".age"
_PREFIX: Final = "tailrace-"


async def command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Write a backup; print its name and size."""
    client = await connect(
        settings, "tailrace-backup", inbox_prefix=Subjects(settings.prefix).inboxes("admin")
    )
    try:
        path, manifest = await write_backup(
            JetStream(client), settings, Path(options.path), options.recipient
        )
    finally:
        await client.close()
    messages = sum(stream.messages for stream in manifest.streams.values())
    content = f"{len(manifest.streams)} streams, {messages} messages"
    sys.stdout.write(f"{path}: {content}, {path.stat().st_size} bytes\n")
    if options.keep:
        _remove_older(path.parent, options.keep)
    return 0


async def write_backup(
    jetstream: JetStream, settings: CommonSettings, path: Path, recipients: list[str]
) -> tuple[Path, Manifest]:
    """Write a backup; return its file and its manifest.

    Args:
        jetstream: the connection.
        settings: the installation.
        path: the file, or a folder in which a file is named after the time.
        recipients: the public keys of its readers.

    Raises:
        StartupError: the file cannot be written, or a key is invalid.
        UnavailableError: NATS did not answer.
        JetStreamError: JetStream refused.
    """
    subjects = Subjects(settings.prefix)
    events = await jetstream.api(f"STREAM.INFO.{subjects.stream(topology.EVENTS)}")
    created_at: str = events["ts"]
    path = _file(path, created_at)
    manifest = Manifest(FORMAT, running_version(), settings.prefix, created_at, {})
    writer = ArchiveWriter(path, recipients)
    try:
        for spec in _specs(settings):
            stored = await _write_stream(jetstream, writer, spec, epoch_of(events))
            manifest.streams[spec] = stored
        await asyncio.to_thread(writer.finish, manifest)
    except BaseException:
        writer.discard()
        raise
    return path, manifest


def _file(path: Path, created_at: str) -> Path:
    if not path.is_dir():
        return path
    stamp = datetime.fromisoformat(created_at).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return path / f"{_PREFIX}{stamp}{_SUFFIX}"


def _specs(settings: CommonSettings) -> list[str]:
    """Return the names of the streams to take, in order."""
    subjects = Subjects(settings.prefix)
    names = {spec.name.removeprefix("KV_"): spec.name for spec in topology.topology(settings)}
    return [names[subjects.stream(root)] for root in STREAMS]


async def _write_stream(
    jetstream: JetStream, writer: ArchiveWriter, stream: str, epoch: str
) -> StoredStream:
    stored = StoredStream(0, 0, 0, "")

    async def begin(answer: dict[str, Any]) -> None:
        config = answer["config"]
        metadata = without_server_metadata(config.get("metadata") or {})
        if topology.VERSION_KEY in metadata:
            # That of a stream of Tailrace 0.2 is the time of its creation, which a restore changes.
            metadata = {EPOCH_KEY: epoch, **metadata}
        state = answer["state"]
        stored.messages, stored.last_sequence = state["messages"], state["last_seq"]
        config = {**config, "metadata": metadata}
        await asyncio.to_thread(writer.add_stream, stream, config, state)

    async def add(chunk: bytes) -> None:
        await asyncio.to_thread(writer.add_chunk, stream, stored.chunks, chunk)
        stored.chunks += 1

    stored.sha256 = await take(jetstream, stream, begin, add)
    return stored


def _remove_older(folder: Path, keep: int) -> None:
    backups = sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    for path in backups[:-keep]:
        with contextlib.suppress(OSError):
            path.unlink()
            sys.stdout.write(f"removed {path}\n")
