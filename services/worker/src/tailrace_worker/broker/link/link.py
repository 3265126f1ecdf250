"""The socket to NATS as publisher, acknowledgements and puller use it: send, flush, subscribe.

``send`` drops a message while there is no connection. This loses nothing: each sender keeps a
message until the server has confirmed it, and sends it again after a reconnect.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import nats.errors
from dramatiq.logging import get_logger
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.nats import jetstream
from tailrace_shared.nats.health import Pulse
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects
from tailrace_worker.broker.link.wire import Outgoing, pub_command

_RECONNECT_WAIT_S: Final = 0.2
_FLUSH_TIMEOUT_S: Final = 10.0


class ConnectionOptions(NamedTuple):
    """How to connect to NATS.

    Attributes:
        settings: the servers, credentials, prefix, replicas of each stream, and the time
            in which the first connect must succeed.
        ack_wait: seconds without a heartbeat after which JetStream delivers a message again.
        client: further options for nats-py's ``Client.connect``.
    """

    settings: CommonSettings
    ack_wait: float
    client: dict[str, Any]


class Link:
    """A connection to NATS that reconnects by itself. Lives on the loop.

    Attributes:
        pulse: whether NATS answers over this link.
        disconnected_at: when the connection broke, by the monotonic clock; None while all that a
            break had cost has been sent again (``mark_restored``).
    """

    client: Client
    jetstream: JetStream
    pulse: Pulse

    def __init__(self) -> None:
        self.disconnected_at: float | None = None
        self._outbox: deque[Outgoing] = deque()
        self._has_outgoing = asyncio.Event()
        self._is_closing = False
        self._logger = get_logger(__name__, type(self))
        self._tasks: list[asyncio.Task[None]] = []

    async def open(
        self,
        options: ConnectionOptions,
        name: str,
        limit: StartupLimit,
        on_reconnect: Callable[[], Awaitable[None]],
    ) -> None:
        """Connect; wait for NATS within a time limit.

        Args:
            name: the name of the connection, for operators of NATS.
            limit: the time limit.
            on_reconnect: called after every reconnect; it must return at once.

        Raises:
            StartupError: NATS is unreachable or too old, or JetStream is off.
        """
        self.client = await jetstream.connect(
            options.settings,
            name,
            limit,
            disconnected_cb=self._disconnected,
            reconnected_cb=on_reconnect,
            reconnect_time_wait=_RECONNECT_WAIT_S,
            **{
                "inbox_prefix": Subjects(options.settings.prefix).inboxes("worker"),
                **options.client,
            },
        )
        self.jetstream = JetStream(self.client)
        self.pulse = Pulse(self.client)
        self._tasks = [
            asyncio.create_task(self._write_outbox()),
            asyncio.create_task(self.pulse.run()),
        ]

    async def close(self) -> None:
        """Write what is still to be sent, then close the connection."""
        self._is_closing = True
        try:
            await self.flush()
        finally:
            for task in self._tasks:
                task.cancel()
            await self.client.close()

    def send(self, message: Outgoing) -> None:
        """Write a message as soon as possible; drop it while there is no connection."""
        self._outbox.append(message)
        self._has_outgoing.set()

    async def flush(self) -> bool:
        """Wait until the server has read all that was sent so far.

        Returns:
            False if the server may not have read it: the connection broke meanwhile, or had broken
            and the lost messages have not been sent again yet.
        """
        was_whole, reconnects = self._is_whole, self.client.stats["reconnects"]
        await self._empty_outbox()
        if not self.client.is_connected:
            return False
        # nats-py writes a ping at once, ahead of what still waits in its buffer.
        await self.client._flush_pending(force_flush=True)  # noqa: SLF001
        # nats-py's own flush cancels its future, and a late answer then ends nats-py's reader.
        pong = asyncio.get_running_loop().create_future()
        await self.client._send_ping(pong)  # noqa: SLF001
        await asyncio.wait([pong], timeout=_FLUSH_TIMEOUT_S)
        is_same = self._is_whole and self.client.stats["reconnects"] == reconnects
        return was_whole and is_same and pong.done()

    async def subscribe(self, callback: Callable[[Msg], None]) -> tuple[str, Any]:
        """Subscribe one token below a new inbox; return the inbox and nats-py's subscription."""

        async def receive(message: Msg) -> None:
            callback(message)

        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(
            f"{inbox}.*", cb=receive, pending_bytes_limit=0, pending_msgs_limit=0
        )
        return inbox, subscription

    def mark_restored(self) -> None:
        """Record that everything lost with the broken connection is being sent again."""
        self.disconnected_at = None

    @property
    def _is_whole(self) -> bool:
        return self.disconnected_at is None and self.client.is_connected

    async def _disconnected(self) -> None:
        if self._is_closing:
            return
        self.disconnected_at = time.monotonic()
        self._logger.warning("lost the connection to NATS; reconnecting")

    async def _write_outbox(self) -> None:
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            await self._empty_outbox()

    async def _empty_outbox(self) -> None:
        plain: list[bytes] = []
        while self._outbox:
            message = self._outbox.popleft()
            if message.headers is None:
                plain.append(pub_command(message))
            elif self.client.is_connected:
                await self._write(message)
        if plain and self.client.is_connected:
            # nats-py has no call for many messages; its publish costs more than half of an ack.
            await self.client._send_command(b"".join(plain))  # noqa: SLF001
            await self.client._flush_pending()  # noqa: SLF001

    async def _write(self, message: Outgoing) -> None:
        try:
            await self.client.publish(
                message.subject, message.payload, message.reply, message.headers
            )
        except (nats.errors.Error, OSError) as error:
            self._logger.debug("write failed subject=%s error=%r", message.subject, error)
