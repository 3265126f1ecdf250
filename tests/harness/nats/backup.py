"""A backup of a stream in memory, without its consumers."""

import asyncio
from typing import Any, NamedTuple

from tailrace_shared.admin.backups.snapshots import StreamRestore, take
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import without_server_metadata


class Backup(NamedTuple):
    """The data of a stream at one time.

    Attributes:
        config: the configuration of the stream.
        state: the state that the server has reported.
        chunks: the snapshot.
    """

    config: dict[str, Any]
    state: dict[str, Any]
    chunks: list[bytes]


async def take_backup(jetstream: JetStream, stream: str) -> Backup:
    """Take a snapshot of a stream."""
    began: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    chunks: list[bytes] = []

    async def begin(answer: dict[str, Any]) -> None:
        began.set_result(answer)

    async def add(chunk: bytes) -> None:
        chunks.append(chunk)

    await take(jetstream, stream, begin, add)
    answer = await began
    config = answer["config"]
    metadata = without_server_metadata(config.get("metadata") or {})
    return Backup({**config, "metadata": metadata}, answer["state"], chunks)


async def take_backups(jetstream: JetStream) -> list[Backup]:
    """Take snapshots of all streams that are stored on disk."""
    listed = await jetstream.api("STREAM.LIST", {})
    configs = [stream["config"] for stream in listed["streams"] or []]
    return [
        await take_backup(jetstream, config["name"])
        for config in configs
        if config["storage"] == "file"
    ]


async def restore(jetstream: JetStream, backup: Backup) -> None:
    """Create a stream, which must not exist, from a backup."""
    restoring = StreamRestore(jetstream, backup.config, backup.state)
    await restoring.begin()
    for chunk in backup.chunks:
        await restoring.add(chunk)
    await restoring.finish()
