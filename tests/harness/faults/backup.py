"""Back up and restore streams through the API that ``nats account backup`` uses."""

import asyncio
import contextlib
import json
from typing import Any, Final, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

_CHUNK_BYTES: Final = 128 * 1024
_TIMEOUT_S: Final = 240.0
_RETRY_S: Final = 0.1


class Backup(NamedTuple):
    """One stream with its consumers.

    Attributes:
        config: the configuration of the stream.
        state: the state that the server has reported.
        chunks: the snapshot.
    """

    config: dict[str, Any]
    state: dict[str, Any]
    chunks: list[bytes]


async def back_up(client: Client) -> list[Backup]:
    """Return backups of all streams that are stored on disk."""
    listed = await _ask(client, "STREAM.LIST", {})
    configs = [stream["config"] for stream in listed["streams"] or []]
    return [await _snapshot(client, config) for config in configs if config["storage"] == "file"]


async def _snapshot(client: Client, config: dict[str, Any]) -> Backup:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    request = {"deliver_subject": inbox, "chunk_size": _CHUNK_BYTES}
    begun = await _ask(client, f"STREAM.SNAPSHOT.{config['name']}", request)
    chunks = []
    # The snapshot ends with an empty message.
    while (message := await subscription.next_msg(_TIMEOUT_S)).data:
        chunks.append(message.data)
        if message.reply:
            await message.respond(b"")
    await subscription.unsubscribe()
    return Backup(begun["config"], begun["state"], chunks)


async def restore(client: Client, backups: list[Backup]) -> None:
    """Create the streams of a backup, with their messages and consumers."""
    for backup in backups:
        request = {"config": backup.config, "state": backup.state}
        begun = await _ask(client, f"STREAM.RESTORE.{backup.config['name']}", request)
        for chunk in [*backup.chunks, b""]:
            answer = await _request(client, begun["deliver_subject"], chunk)
            if answer.data:
                _checked(json.loads(answer.data))


async def _request(client: Client, subject: str, data: bytes) -> Msg:
    async with asyncio.timeout(_TIMEOUT_S):
        while True:
            # The client's node may not know yet that another one has subscribed.
            with contextlib.suppress(NoRespondersError):
                return await client.request(subject, data, timeout=_TIMEOUT_S)
            await asyncio.sleep(_RETRY_S)


async def _ask(client: Client, what: str, body: dict[str, Any]) -> dict[str, Any]:
    subject = f"$JS.API.{what}"
    # The cluster may be electing a leader.
    answer = await _request(client, subject, json.dumps(body).encode())
    return _checked(json.loads(answer.data))


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if error := answer.get("error"):
        raise RuntimeError(f"{error}")
    return answer
