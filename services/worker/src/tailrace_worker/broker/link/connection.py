"""One connection to NATS and one event loop, in a daemon thread, for a whole process.

Dramatiq is threads: actors enqueue and acknowledge on worker threads, consumers block on threads
of their own. NATS is a stream of bytes that one loop reads and writes best. Between them lies
``post``: a call is appended to a queue and the loop is woken once, however many threads post
before it wakes, so their messages leave in one write.

What goes out is never lost by a broken connection, because nothing relies on the socket: whoever
sends something keeps it until the server has answered, and sends it again after a reconnect.
``send`` may therefore drop what it is given while there is no connection.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import nats.errors
import uvloop
from dramatiq.errors import BrokerError, ConnectionClosed, ConnectionFailed
from dramatiq.logging import get_logger
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.duration import Duration
from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.nats import jetstream
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import StreamSpec, job_streams
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects
from tailrace_worker.broker.counts import Counts, new_counts
from tailrace_worker.broker.link.acknowledgements import Acknowledgements
from tailrace_worker.broker.link.publisher import Publisher
from tailrace_worker.broker.link.pull import Puller
from tailrace_worker.broker.link.wire import Outgoing, pub_command

T = TypeVar("T")

_RECONNECT_WAIT: Final = 0.2
_PING_INTERVAL: Final = 10
_CALL_TIMEOUT: Final = 30.0
_CLOSE_TIMEOUT: Final = 5.0
_FLUSH_TIMEOUT: Final = 10.0


class ConnectionOptions(NamedTuple):
    """Where NATS is and what Tailrace may call its own there."""

    url: str
    prefix: str
    replicas: int
    connect_timeout: float
    ack_wait: float
    client: dict[str, Any]


class Connection:
    """A live connection, with the publisher and the acknowledgements that belong to it.

    Raises:
        ConnectionFailed: NATS is unreachable or too old, or JetStream is off or already holds
            other streams under our names.
    """

    client: Client
    jetstream: JetStream
    publisher: Publisher
    acknowledgements: Acknowledgements

    def __init__(self, options: ConnectionOptions, counts: Counts) -> None:
        self.options = options
        self.counts = counts
        self.subjects = Subjects(options.prefix)
        self.logger = get_logger(__name__, type(self))
        self.process = os.getpid()
        self.disconnected_at: float | None = None
        self.pullers: list[Puller] = []
        self._streams = job_streams(options.prefix, options.replicas)
        self._calls: deque[Callable[[], object]] = deque()
        self._awake = False
        self._outbox: deque[Outgoing] = deque()
        self._closed = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="nats-connection", daemon=True)
        self._thread.start()
        try:
            self.call(self._open, timeout=options.connect_timeout + 5)
        except (StartupError, BrokerError) as error:
            self._stop_loop()
            raise ConnectionFailed(str(error)) from error

    # From any thread

    def post(self, function: Callable[[], object]) -> None:
        """Have the loop call ``function`` soon. The order of calls is kept."""
        self._calls.append(function)
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._make_calls)
            except RuntimeError:
                raise ConnectionClosed("the broker is closed") from None

    def call(
        self, function: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = _CALL_TIMEOUT
    ) -> T:
        """Run a coroutine on the loop and return its result, in Dramatiq's terms.

        Raises:
            ConnectionClosed: NATS did not answer in time, or the connection is closed.
            BrokerError: NATS refused.
        """
        if self._closed:
            raise ConnectionClosed("the broker is closed")
        future = asyncio.run_coroutine_threadsafe(function(), self._loop)
        try:
            return future.result(timeout)
        except (TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            raise ConnectionClosed(f"NATS did not answer within {timeout} s") from None
        except (UnavailableError, nats.errors.Error) as error:
            raise ConnectionClosed(str(error)) from error
        except JetStreamError as error:
            raise BrokerError(str(error)) from error

    @property
    def is_usable(self) -> bool:
        """Whether this connection may still be used, in this process."""
        return not self._closed and not self.client.is_closed and self.process == os.getpid()

    def close(self) -> None:
        """Hand over what is still to be acknowledged, then end the loop and its thread."""
        if self._closed:
            return
        # nats-py may fail in any way to close a connection that is broken; it is closed then too.
        with contextlib.suppress(Exception):
            self.call(self._shut, timeout=_CLOSE_TIMEOUT)
        self._stop_loop()

    # On the loop

    def send(self, message: Outgoing) -> None:
        """Write a message as soon as possible; drop it while there is no connection."""
        self._outbox.append(message)
        self._has_mail.set()

    async def flush(self) -> bool:
        """Return when the server has read all that was sent so far; False if it may not have.

        It may not have where the connection breaks meanwhile, or has broken and what that has cost
        is still to be sent again.
        """
        was_whole, reconnects = self._is_whole, self.client.stats["reconnects"]
        await self._empty_outbox()
        if not self.client.is_connected:
            return False
        # A ping is written at once, ahead of what still waits to be written.
        await self.client._flush_pending(force_flush=True)  # noqa: SLF001
        # nats-py's flush cancels what it waits for, and then a late answer ends nats-py's reader.
        pong = self._loop.create_future()
        await self.client._send_ping(pong)  # noqa: SLF001
        await asyncio.wait([pong], timeout=_FLUSH_TIMEOUT)
        is_same = self._is_whole and self.client.stats["reconnects"] == reconnects
        return was_whole and is_same and pong.done()

    async def subscribe(self, callback: Callable[[Msg], None]) -> tuple[str, Any]:
        """Listen one token below a new inbox; return the inbox and the subscription."""

        async def receive(message: Msg) -> None:
            callback(message)

        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(
            f"{inbox}.*", cb=receive, pending_bytes_limit=0, pending_msgs_limit=0
        )
        return inbox, subscription

    @property
    def _is_whole(self) -> bool:
        return self.disconnected_at is None and self.client.is_connected

    async def _open(self) -> None:
        settings = CommonSettings(
            nats_url=self.options.url,
            nats_connect_timeout=Duration(self.options.connect_timeout),
        )
        self._has_mail = asyncio.Event()
        self.client = await jetstream.connect(
            settings,
            name=f"dramatiq-{self.process}",
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            reconnect_time_wait=_RECONNECT_WAIT,
            ping_interval=_PING_INTERVAL,
            **self.options.client,
        )
        self.jetstream = JetStream(self.client)
        await self._ensure_streams()
        self.publisher = Publisher(self)
        await self.publisher.start()
        self.acknowledgements = Acknowledgements(self)
        self._tasks = [
            asyncio.create_task(self._write_outbox()),
            asyncio.create_task(self.publisher.watch()),
            asyncio.create_task(self.acknowledgements.heartbeat()),
        ]

    async def _ensure_streams(self) -> None:
        await ensure(self.jetstream, self._streams)

    async def ensure(self, stream: StreamSpec) -> None:
        """Create a further stream if it does not exist, now and should NATS ever lose it."""
        await ensure(self.jetstream, [stream])
        self._streams.append(stream)

    async def _shut(self) -> None:
        self._closed = True
        try:
            await self.acknowledgements.hand_back_all()
            await self.flush()
        finally:
            for task in self._tasks:
                task.cancel()
            await self.client.close()

    def _make_calls(self) -> None:
        # Cleared first: a call posted while this runs must wake the loop again.
        self._awake = False
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:
                # One call that fails must not strand the acks behind it.
                self.logger.exception("A call on the connection's loop failed.")

    async def _write_outbox(self) -> None:
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
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
            # nats-py's publish would cost more than half of an ack; it has no call for many.
            await self.client._send_command(b"".join(plain))  # noqa: SLF001
            await self.client._flush_pending()  # noqa: SLF001

    async def _write(self, message: Outgoing) -> None:
        try:
            await self.client.publish(
                message.subject, message.payload, message.reply, message.headers
            )
        except (nats.errors.Error, OSError) as error:
            self.logger.debug("Could not write to %s: %r", message.subject, error)

    async def _disconnected(self) -> None:
        if self._closed:
            return
        self.disconnected_at = time.monotonic()
        self.logger.warning("Lost the connection to NATS; trying to reconnect.")

    async def _reconnected(self) -> None:
        self.logger.info("Reconnected to NATS.")
        asyncio.create_task(self._resume())  # noqa: RUF006 - holds no result; errors are logged

    async def _resume(self) -> None:
        # A NATS that lost its disk gets its streams back before anything is sent again.
        while self.client.is_connected:
            try:
                await self._ensure_streams()
                break
            except (StartupError, UnavailableError, JetStreamError) as error:
                self.logger.warning("NATS is back but not ready: %s", error)
                await asyncio.sleep(_RECONNECT_WAIT)
        if not self.client.is_connected:
            return  # it is lost again, and the next reconnect resumes
        self.disconnected_at = None
        self.publisher.resend_all()
        self.acknowledgements.resend_all()
        for puller in self.pullers:
            puller.resume()

    # The thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _stop_loop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_TIMEOUT)


class Connector:
    """Gives the one connection of this process, made at first use and again after a fork."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self.subjects = Subjects(options.prefix)
        self.counts = new_counts()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False
        _connectors.add(self)

    def get(self) -> Connection:
        """Return the connection, opening it if need be.

        Raises:
            ConnectionFailed: it cannot be opened.
            ConnectionClosed: the connector was closed.
        """
        connection = self._connection
        if connection is not None and connection.is_usable:
            return connection
        with self._lock:
            if self._closed:
                raise ConnectionClosed("the broker is closed")
            if self._connection is None or not self._connection.is_usable:
                self._connection = Connection(self.options, self.counts)
            return self._connection

    def close(self) -> None:
        """Close the connection for good."""
        with self._lock:
            self._closed = True
            if self._connection is not None and self._connection.process == os.getpid():
                self._connection.close()

    def forget(self) -> None:
        """Leave the connection to the parent, in a child process."""
        self._lock = threading.Lock()
        self._connection = None
        self.counts.clear()


_connectors: "weakref.WeakSet[Connector]" = weakref.WeakSet()


def _forget_connections() -> None:
    for connector in _connectors:
        connector.forget()


# The parent's loop thread does not exist in a child, and a lock may have been held at the fork.
os.register_at_fork(after_in_child=_forget_connections)
