"""A backup of a stream, taken and restored through JetStream's own snapshots."""

import asyncio
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.nats.jetstream import JetStream

_CHUNK_BYTES = 64 * 1024


class Backup(NamedTuple):
    """The data of a stream at one time."""

    stream: str
    config: dict[str, Any]
    state: dict[str, Any]
    chunks: list[bytes]


async def take_backup(client: Client, stream: str) -> Backup:
    """Take a snapshot of a stream."""
    chunks: list[bytes] = []
    done = asyncio.Event()

    async def receive(message: Msg) -> None:
        if not message.data:
            done.set()
            return
        chunks.append(message.data)
        if message.reply:
            await message.respond(b"")

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=receive)
    request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK_BYTES}
    answer = await JetStream(client).api(f"STREAM.SNAPSHOT.{stream}", request)
    async with asyncio.timeout(60):
        await done.wait()
    await subscription.unsubscribe()
    return Backup(stream, answer["config"], answer["state"], chunks)


async def restore(client: Client, backup: Backup) -> None:
    """Replace a stream by its backup."""
    jetstream = JetStream(client)
    await jetstream.api(f"STREAM.DELETE.{backup.stream}")
    request = {"config": backup.config, "state": backup.state}
    answer = await jetstream.api(f"STREAM.RESTORE.{backup.stream}", request)
    for chunk in backup.chunks:
        await client.request(answer["deliver_subject"], chunk, timeout=60)
    last = await client.request(answer["deliver_subject"], b"", timeout=60)
    assert "error" not in msgspec.json.decode(last.data), last.data
