"""A JetStream key-value bucket whose keys expire, for results and rate limits.

Every value carries the moment at which it expires, exact to the millisecond. JetStream's own TTL,
in whole seconds, only clears away what nobody asks for any more.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg

from tailrace_shared.nats.jetstream import StoredMessage
from tailrace_shared.nats.topology import StreamSpec
from tailrace_worker.broker.link.connection import Connection, Connector

_EXPIRES_AT: Final = "Expires-At"
_FENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_FENCED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_=-]{1,64}")


class Fence(NamedTuple):
    """What a write relies on: the last sequence of a subject, or of several by a wildcard."""

    subject: str
    sequence: int


class BrokerBucket:
    """Reads and writes one bucket. Lives on the loop of its connection."""

    def __init__(self, connection: Connection, spec: StreamSpec) -> None:
        self._jetstream = connection.jetstream
        self._spec = spec
        self._root = spec.subjects[0].removesuffix(".>")

    async def get(self, key: str) -> bytes | None:
        """Return a value, or None if there is none or it has expired."""
        value, _ = await self.get_fenced(key)
        return value

    async def get_fenced(self, key: str) -> tuple[bytes | None, Fence]:
        """Return a value, and a fence for writing it anew."""
        subject = f"{self._root}.{key}"
        message = await self._jetstream.get(self._spec.name, {"last_by_subj": subject})
        if message is None:
            return None, Fence(subject, 0)
        return _value(message), Fence(subject, message.sequence)

    async def get_group(self, group: str) -> tuple[dict[str, bytes], Fence]:
        """Return all values one token below ``group``, by key, and a fence around them all."""
        subject = f"{self._root}.{group}.*"
        values, last = {}, 0
        # Not one atomic read: whatever changes meanwhile moves the last sequence past the fence.
        async for message in self._jetstream.read(self._spec.name, subject, 1):
            last = message.sequence
            if (value := _value(message)) is not None:
                values[message.subject.removeprefix(f"{self._root}.")] = value
        return values, Fence(subject, last)

    async def put(self, key: str, data: bytes, ttl: int, fence: Fence | None = None) -> None:
        """Write a value that expires after ``ttl`` milliseconds.

        Raises:
            WrongLastSequenceError: the fence did not hold: somebody else wrote first.
        """
        headers = {_EXPIRES_AT: str(_now() + ttl), "Nats-TTL": f"{ttl // 1000 + 2}s"}
        if fence is not None:
            headers |= {_FENCED_SUBJECT: fence.subject, _FENCE: str(fence.sequence)}
        await self._jetstream.publish(f"{self._root}.{key}", data, headers)

    async def wait(self, key: str, seconds: float | None) -> bytes | None:
        """Return a value as soon as there is one, or None after so many seconds."""
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if not arrived.done():
                arrived.set_result(message.data)

        client = self._jetstream.client
        subscription = await client.subscribe(f"{self._root}.{key}", cb=receive)
        try:
            # The server must know of the subscription before we look, or a value written in
            # between would be missed by both.
            await client.flush()
            if (value := await self.get(key)) is not None:
                return value
            async with asyncio.timeout(seconds):
                return await arrived
        except TimeoutError:
            return None
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()


class BucketConnector:
    """Gives the bucket of one name on a process's connection, made if it does not exist."""

    def __init__(self, connector: Connector, name: str) -> None:
        self._connector = connector
        bucket = connector.subjects.stream(name)
        self._spec = StreamSpec(
            name=f"KV_{bucket}",
            subjects=[f"$KV.{bucket}.>"],
            discard="new",
            num_replicas=connector.options.replicas,
            max_msgs_per_subject=1,
            allow_direct=True,
            allow_rollup_hdrs=True,
            allow_msg_ttl=True,
            deny_delete=True,
        )
        self._ensured: Connection | None = None

    def get(self) -> tuple[Connection, BrokerBucket]:
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
    """Return any text as one token of a key: itself if it is one, else its hash."""
    if _TOKEN.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _value(message: StoredMessage) -> bytes | None:
    return message.data if int(message.headers.get(_EXPIRES_AT, "0")) > _now() else None


def _now() -> int:
    return int(time.time() * 1000)
