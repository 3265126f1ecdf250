"""Take and restore snapshots of streams, and skip sequences after a restore.

The sequences of EVENTS are in the ids of browsers. After a restore, NATS would give the sequences
after the snapshot a second time, and a browser that had seen the first ones would miss events. So
they are skipped: the restored stream begins as a mirror of one that holds a single message at a
later sequence, takes it, and then becomes an ordinary stream.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream
from tailrace_shared.nats.provision import without_server_metadata
from tailrace_shared.nats.topology import EVENTS, LOST_KEY
from tailrace_shared.subjects import Subjects

GAP: Final = "RESTORE_GAP"
"""The stream that a restore creates and deletes, to skip sequences."""

_CHUNK_BYTES: Final = 256 * 1024
_ANNOUNCEMENT_S: Final = 60.0
_REPEAT_S: Final = 0.5
_INTEREST_S: Final = 10.0
_SILENCE_S: Final = 120.0
_POLL_S: Final = 0.05

Take = Callable[[bytes], Awaitable[None]]


async def take(
    jetstream: JetStream, stream: str, begin: Callable[[dict[str, Any]], Awaitable[None]], add: Take
) -> str:
    """Take a snapshot of a stream; return the SHA-256 of its chunks.

    Args:
        jetstream: the connection.
        stream: the stream.
        begin: called once with the server's answer, which has ``config`` and ``state``.
        add: called with each chunk, in order.

    Raises:
        UnavailableError: NATS stopped sending.
        JetStreamError: JetStream refused.
    """
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = jetstream.client.new_inbox()
    subscription = await jetstream.client.subscribe(inbox, cb=arrived.put)
    request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK_BYTES}
    digest = hashlib.sha256()
    try:
        await begin(await jetstream.api(f"STREAM.SNAPSHOT.{stream}", request))
        while True:
            try:
                message = await asyncio.wait_for(arrived.get(), _SILENCE_S)
            except TimeoutError:
                raise UnavailableError(f"NATS stopped sending stream {stream}") from None
            status = (message.headers or {}).get("Status", "")
            if status >= "400":
                raise UnavailableError(f"NATS stopped sending stream {stream}: {message.headers}")
            if not message.data:
                return digest.hexdigest()
            digest.update(message.data)
            await add(message.data)
            if message.reply:
                # The server waits for this before it sends more.
                await message.respond(b"")
    finally:
        await subscription.unsubscribe()


class StreamRestore:
    """Restores one stream, which must not exist.

    Args:
        config: the configuration of the stream; None of the server's own metadata.
        state: the state that the backup says.
    """

    def __init__(self, jetstream: JetStream, config: dict[str, Any], state: dict[str, Any]) -> None:
        self._jetstream = jetstream
        self._config = config
        self._state = state
        self._subject = ""

    async def begin(self) -> None:
        """Announce the restore.

        A cluster does not answer while it elects a leader or a server joins, so this is repeated.

        Raises:
            UnavailableError: NATS did not answer within a minute.
            JetStreamError: JetStream refused, for example because the stream exists.
        """
        name = self._config["name"]
        body = {"config": self._config, "state": self._state}
        deadline = asyncio.get_running_loop().time() + _ANNOUNCEMENT_S
        while True:
            try:
                answer = await self._jetstream.api(f"STREAM.RESTORE.{name}", body)
            except UnavailableError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                # What did not answer may have begun, and would be in the way.
                await self._delete()
                # A cluster may also answer at once that it cannot serve now.
                await asyncio.sleep(_REPEAT_S)
            else:
                self._subject = answer["deliver_subject"]
                return

    async def _delete(self) -> None:
        try:
            await self._jetstream.api(f"STREAM.DELETE.{self._config['name']}")
        except UnavailableError:
            pass
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise

    async def add(self, chunk: bytes) -> None:
        """Send a chunk.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._send(chunk)

    async def finish(self) -> None:
        """End the restore.

        Raises:
            StartupError: JetStream could not restore the stream.
            UnavailableError: NATS did not answer.
        """
        answer: dict[str, Any] = msgspec.json.decode(await self._send(b""))
        name = self._config["name"]
        if error := answer.get("error"):
            raise StartupError(f"stream {name} cannot be restored: {error['description']}")
        last, wanted_last = answer["state"]["last_seq"], self._state["last_seq"]
        if last < wanted_last:
            raise StartupError(f"stream {name} ends at {last}, and the backup at {wanted_last}")
        found, wanted = answer["state"]["messages"], self._state["messages"]
        if found < wanted and not self._loses_with_time():
            raise StartupError(f"stream {name} has {found} messages, and the backup {wanted}")

    def _loses_with_time(self) -> bool:
        """Return whether messages may have expired, or schedules fired, as soon as it was there."""
        reasons = ("max_age", "allow_msg_ttl", "allow_msg_schedules")
        return any(self._config.get(reason) for reason in reasons)

    async def _send(self, chunk: bytes) -> bytes:
        client = self._jetstream.client
        deadline = asyncio.get_running_loop().time() + _INTEREST_S
        while True:
            try:
                message = await client.request(self._subject, chunk, timeout=_SILENCE_S)
            except (TimeoutError, nats.errors.Error) as error:
                # Another server restores; this client's may not have heard of its subscription yet.
                is_early = isinstance(error, nats.errors.NoRespondersError)
                if not is_early or asyncio.get_running_loop().time() > deadline:
                    name = self._config["name"]
                    raise UnavailableError(f"NATS did not take {name}: {error!r}") from None
                await asyncio.sleep(_POLL_S)
            else:
                return bytes(message.data)


class SequenceGap:
    """Skips sequences of the restored stream EVENTS.

    Args:
        config: the configuration of EVENTS in the backup.
        last: its last sequence there.
        skip: how many sequences to skip.
    """

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        config: dict[str, Any],
        last: int,
        skip: int,
    ) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._config = config
        self._name = subjects.stream(GAP)
        self._last, self._end = last, last + skip

    async def mirror(self) -> dict[str, Any]:
        """Create the stream that holds the message; return how EVENTS must be restored.

        Raises:
            UnavailableError: NATS did not answer.
            JetStreamError: JetStream refused.
        """
        subject = self._subjects.restore_gap()
        body = {
            "name": self._name,
            "subjects": [subject],
            "storage": "file",
            "num_replicas": self._config["num_replicas"],
            "first_seq": self._end,
        }
        await self._jetstream.api(f"STREAM.CREATE.{self._name}", body)
        await self._jetstream.publish(subject, b"")
        left_out = {"subjects", "republish"}
        kept = {key: value for key, value in self._config.items() if key not in left_out}
        return {**kept, "mirror": {"name": self._name}}

    async def close(self) -> None:
        """Wait until EVENTS has skipped the sequences, and make it an ordinary stream.

        Raises:
            UnavailableError: NATS did not answer, or EVENTS did not follow within a minute.
            JetStreamError: JetStream refused.
        """
        name = self._config["name"]
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            info = await self._jetstream.api(f"STREAM.INFO.{name}")
            if info["state"]["last_seq"] >= self._end:
                break
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"stream {name} does not skip its lost sequences")
            await asyncio.sleep(_POLL_S)
        metadata = without_server_metadata(self._config.get("metadata") or {})
        lost = [*filter(None, [metadata.get(LOST_KEY)]), f"{self._last + 1}-{self._end}"]
        body = {**self._config, "metadata": {**metadata, LOST_KEY: ",".join(lost)}}
        await self._jetstream.api(f"STREAM.UPDATE.{name}", body)
        await self._jetstream.api(f"STREAM.MSG.DELETE.{name}", {"seq": self._end})
        await self._jetstream.api(f"STREAM.DELETE.{self._name}")


def is_events(subjects: Subjects, stream: str) -> bool:
    """Return whether a stream is the log."""
    return stream == subjects.stream(EVENTS)
