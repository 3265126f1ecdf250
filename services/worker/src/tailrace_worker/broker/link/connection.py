"""One connection to NATS for a whole process, used by all of Dramatiq's threads.

The connection joins the parts that live on one event loop: the link (the socket), the publisher,
the acknowledgements and the pullers. After a reconnect it first makes sure of the streams, because
a NATS that lost its disk has none, and then has each part send again what was lost.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

from dramatiq.errors import BrokerError, ConnectionFailed
from dramatiq.logging import get_logger

from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.topology import StreamSpec, job_streams
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.subjects import Subjects
from tailrace_worker.broker.counts import Counts
from tailrace_worker.broker.link.acknowledgements import Acknowledgements
from tailrace_worker.broker.link.delivery import Delivery
from tailrace_worker.broker.link.link import ConnectionOptions, Link
from tailrace_worker.broker.link.loop_thread import LoopThread
from tailrace_worker.broker.link.publisher import Publisher
from tailrace_worker.broker.link.pull import Puller, PullOptions

_RETRY_S: Final = 0.2
_CLOSE_TIMEOUT_S: Final = 5.0
#: What opening may take beyond the connect timeout, to create streams.
_OPEN_MARGIN_S: Final = 5.0


class BrokerConnection:
    """A live connection and the parts that work over it.

    Raises:
        ConnectionFailed: NATS is unreachable or too old, JetStream is off, or it holds other
            streams under our names.

    Attributes:
        process: the id of the process that opened the connection; a forked child must not use it.
    """

    link: Link
    publisher: Publisher
    acknowledgements: Acknowledgements

    def __init__(self, options: ConnectionOptions, counts: Counts) -> None:
        self.options = options
        self.subjects = Subjects(options.settings.prefix)
        self.process = os.getpid()
        self._counts = counts
        self._logger = get_logger(__name__, type(self))
        self._pullers: list[Puller] = []
        settings = options.settings
        self._streams = job_streams(
            settings.prefix, settings.nats_replicas, settings.max_store_bytes
        )
        self._not_ready_log = LogThrottle()
        self._tasks: list[asyncio.Task[None]] = []
        self._resuming: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_closed = False
        self._loop = LoopThread()
        # From any thread; see ``LoopThread``.
        self.post = self._loop.post
        self.call = self._loop.call
        try:
            self.call(self._open, timeout=options.settings.nats_connect_timeout + _OPEN_MARGIN_S)
        except (StartupError, BrokerError) as error:
            self._is_closed = True
            self._loop.stop()
            raise ConnectionFailed(str(error)) from error

    @property
    def jetstream(self) -> JetStream:
        """Requests to JetStream; await them on the loop only."""
        return self.link.jetstream

    @property
    def is_usable(self) -> bool:
        """Whether this connection may still be used, in this process."""
        is_open = not self._is_closed and not self.link.client.is_closed
        return is_open and self.process == os.getpid()

    def new_puller(self, options: PullOptions, on_message: Callable[[Delivery], None]) -> Puller:
        """Return a puller for one consumer, which is still to be started."""
        counts = self._counts[options.queue]
        return Puller(self.link, self.acknowledgements, self._pullers, options, counts, on_message)

    def close(self) -> None:
        """Return held messages and write outstanding acks, then end the loop and its thread."""
        if self._is_closed:
            return
        # nats-py may raise any error when it closes a broken connection; it is closed then too.
        with contextlib.suppress(Exception):
            self.call(self._shut_down, timeout=_CLOSE_TIMEOUT_S)
        self._is_closed = True
        self._loop.stop()

    async def ensure(self, stream: StreamSpec) -> None:
        """Create a further stream if it does not exist, now and after NATS has lost it."""
        await ensure(self.jetstream, [stream])
        self._streams.append(stream)

    async def _open(self) -> None:
        self.link = Link()
        limit = StartupLimit(self.options.settings.nats_connect_timeout)
        await self.link.open(self.options, f"dramatiq-{self.process}", limit, self._reconnected)
        self.publisher = Publisher(self.link)
        self.acknowledgements = Acknowledgements(self.link, self.options.ack_wait)
        await limit.retry(lambda: ensure(self.jetstream, self._streams))
        await self.publisher.start()
        self._tasks = [
            asyncio.create_task(self.publisher.resend_unanswered()),
            asyncio.create_task(self.acknowledgements.heartbeat()),
        ]
        self._is_open = True
        if self.link.disconnected_at is not None:
            # NATS restarted while the connection was being opened.
            await self._reconnected()

    async def _shut_down(self) -> None:
        self._is_closed = True
        try:
            self.acknowledgements.release_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await self.link.close()
            self.acknowledgements.stop()

    async def _reconnected(self) -> None:
        if self._is_open:
            self._resuming = asyncio.create_task(self._resume())

    async def _resume(self) -> None:
        # A NATS that lost its disk gets its streams back before anything is sent again.
        while self.link.client.is_connected:
            try:
                await ensure(self.jetstream, self._streams)
                break
            except (StartupError, UnavailableError, JetStreamError) as error:
                if self._not_ready_log.is_due():
                    self._logger.warning("NATS is back but not ready error=%s", error)
                await asyncio.sleep(_RETRY_S)
        if not self.link.client.is_connected:
            return  # broken again; the next reconnect resumes
        self.link.mark_restored()
        self._logger.info("reconnected to NATS")
        self.publisher.resend_all()
        self.acknowledgements.resend_all()
        for puller in self._pullers:
            puller.resume()
