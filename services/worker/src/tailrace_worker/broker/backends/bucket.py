"""A JetStream key-value bucket whose keys expire, for results and rate limits.

Every value carries its expiry time in milliseconds. JetStream's own TTL has whole seconds and only
frees the space of expired values.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg

from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.jetstream import StoredMessage
from tailrace_shared.nats.topology import StreamSpec
from tailrace_worker.broker.link.connection import BrokerConnection
from tailrace_worker.broker.link.connector import Connector

_EXPIRES_AT: Final = "Expires-At"
_FENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_FENCED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
_READ_AGAIN_S: Final = 1.0
_TOKEN: Final = re.compile(r"[A-Za-z0-9_=-]{1,64}")


class Fence(NamedTuple):
    """The condition of a write: the last sequence of a subject, which may be a wildcard."""

    subject: str
    sequence: int


class BrokerBucket:
    """Reads and writes one bucket. Lives on the loop of its connection."""

    def __init__(self, connection: BrokerConnection, spec: StreamSpec) -> None:
        self._jetstream = connection.jetstream
        self._spec = spec
        self._root = spec.subjects[0].removesuffix(".>")

    async def get(self, key: str) -> bytes | None:
        """Return a value, or None, as the bucket's leader has it."""
        value, _ = await self.get_fenced(key)
        return value

    async def get_fenced(self, key: str) -> tuple[bytes | None, Fence]:
        """Return a value, and the fence for changing it."""
        subject = f"{self._root}.{key}"
        message = await self._jetstream.get_newest(self._spec.name, {"last_by_subj": subject})
        if message is None:
            return None, Fence(subject, 0)
        return _value(message), Fence(subject, message.sequence)

    async def get_group(self, group: str) -> tuple[dict[str, bytes], Fence]:
        """Return all values one token below ``group``, by key, and a fence for the group."""
        subject = f"{self._root}.{group}.*"

        async def read() -> tuple[dict[str, bytes], int, int]:
            newest = await self._jetstream.get_newest(self._spec.name, {"last_by_subj": subject})
            values, last = {}, 0
            # The read is not atomic, but any change meanwhile makes the fence fail.
            async for message in self._jetstream.read(self._spec.name, subject, 1):
                last = message.sequence
                if (value := _value(message)) is not None:
                    values[message.subject.removeprefix(f"{self._root}.")] = value
            return values, last, 0 if newest is None else newest.sequence

        values, last, _ = await until_caught_up(
            read, lambda found: found[1] >= found[2], f"bucket {self._spec.name}"
        )
        return values, Fence(subject, last)

    async def put(self, key: str, data: bytes, ttl: int, fence: Fence | None = None) -> None:
        """Write a value that expires after ``ttl`` milliseconds.

        Raises:
            WrongLastSequenceError: another process has written since the fence was read.
        """
        headers = {_EXPIRES_AT: str(_now() + ttl), "Nats-TTL": f"{ttl // 1000 + 2}s"}
        if fence is not None:
            headers |= {_FENCED_SUBJECT: fence.subject, _FENCE: str(fence.sequence)}
        await self._jetstream.publish(f"{self._root}.{key}", data, headers)

    async def wait(self, key: str, seconds: float | None) -> bytes | None:
        """Return a value as soon as it exists, or None after so many seconds."""
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if not arrived.done():
                arrived.set_result(message.data)

        client = self._jetstream.client
        subscription = await client.subscribe(f"{self._root}.{key}", cb=receive)
        try:
            # The server must know the subscription before the read, or both would miss a value
            # that is written in between.
            await client.flush()
            async with asyncio.timeout(seconds):
                while not arrived.done():
                    if (value := await self.get(key)) is not None:
                        return value
                    # A value that was sent before the subscription may be stored after the read.
                    await asyncio.wait([arrived], timeout=_READ_AGAIN_S)
                return arrived.result()
        except TimeoutError:
            return None
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()


class BucketConnector:
    """Opens the bucket of one name on the process's connection, and creates it if need be."""

    def __init__(self, connector: Connector, name: str) -> None:
        self._connector = connector
        bucket = connector.subjects.stream(name)
        self._spec = StreamSpec(
            name=f"KV_{bucket}",
            subjects=[f"$KV.{bucket}.>"],
            discard="new",
            num_replicas=connector.options.settings.nats_replicas,
            max_msgs_per_subject=1,
            allow_direct=True,
            allow_rollup_hdrs=True,
            allow_msg_ttl=True,
            deny_delete=True,
        )
        self._ensured: BrokerConnection | None = None

    def get(self) -> tuple[BrokerConnection, BrokerBucket]:
        """Return the connection and the bucket.

        Raises:
            ConnectionFailed: NATS cannot be reached.
        """
        connection = self._connector.get()
        if self._ensured is not connection:
            connection.call(lambda: connection.ensure(self._spec))
            self._ensured = connection
        return connection, BrokerBucket(connection, self._spec)


def key_token(text: str) -> str:
    """Return a text as one token of a key: unchanged if it is valid, else its hash."""
    if _TOKEN.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _value(message: StoredMessage) -> bytes | None:
    return message.data if int(message.headers.get(_EXPIRES_AT, "0")) > _now() else None


def _now() -> int:
    return int(time.time() * 1000)
