"""A Dramatiq broker on NATS JetStream.

Theory of operation. A queue is a subject, ``<prefix>.jobs.<queue>``, in one work-queue stream, and
one durable pull consumer that all workers share. Enqueueing stores a message and waits for
JetStream's confirmation. Acknowledging removes the message. No other component holds state:

- A *delay* is a message schedule in the same stream (ADR-51): JetStream itself moves the message
  to its queue at the due time. No worker keeps delayed messages in memory, so there are no delay
  queues to declare. A delay under half a second, which JetStream would prolong noticeably, is kept
  by the worker that gets the message (``link.short_delays``).
- A *recurring* message is a schedule too: JetStream enqueues a copy at every firing.
- A *retry* is Dramatiq's: its middleware enqueues the message again with a delay, and the failed
  delivery is acknowledged.
- A *crash* is noticed by missing heartbeats. While a message is prefetched or runs, the
  connection's own thread sends heartbeats for it. When they stop, JetStream delivers the message to
  another worker within the ack wait. After ``max_deliveries`` deliveries it becomes a dead letter.
- A *dead letter* is a message in a second stream, stored before the original is acknowledged.

Delivery is at least once. A message runs twice only if its worker died, hung beyond the ack wait
or lost NATS between the effect and the ack.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import uuid4

from dramatiq import Actor, Message
from dramatiq.broker import Broker
from dramatiq.errors import BrokerError, QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware

from tailrace_shared.duration import Duration
from tailrace_shared.nats.jobs import at_headers
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.settings import CommonSettings
from tailrace_worker.broker import priorities
from tailrace_worker.broker.consumer import ConsumerOptions, NatsConsumer, jetstream_consumer
from tailrace_worker.broker.counts import Counts, QueueCounts
from tailrace_worker.broker.dead_letters import DeadLetterAdmin, DeadLetterWriter
from tailrace_worker.broker.follow_ups import FollowUps
from tailrace_worker.broker.link import short_delays
from tailrace_worker.broker.link.connection import BrokerConnection
from tailrace_worker.broker.link.connector import Connector
from tailrace_worker.broker.link.gate import Gate
from tailrace_worker.broker.link.link import ConnectionOptions
from tailrace_worker.broker.link.publisher import Publish
from tailrace_worker.broker.link.pull import PullOptions
from tailrace_worker.broker.message import encode_message, trace_headers
from tailrace_worker.broker.queue_admin import QueueAdmin, QueueBacklog
from tailrace_worker.broker.recurring import RecurringMessages
from tailrace_worker.broker.stream_writer import StreamWriter

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

#: Publishes that ``enqueue_many`` keeps in flight at once.
_MAX_IN_FLIGHT: Final = 2_000
_NO_GATES: Final[Mapping[str, Gate]] = {}


def _joined(url: str | Sequence[str]) -> str:
    urls = [url] if isinstance(url, str) else list(url)
    if not all(isinstance(each, str) for each in urls):
        raise TypeError("url must be a text, or a list of texts, for example nats://127.0.0.1:4222")
    if not all(each.strip() for each in urls) or not urls:
        raise ValueError("url must name a server, for example nats://127.0.0.1:4222")
    return ",".join(urls)


class NatsBroker(Broker):
    """A Dramatiq broker that stores its queues in NATS JetStream.

    Args:
        url: the server, or several, separated by commas or as a list; may contain a user and
            password, or a token.
        prefix: the first token of all subjects; brokers with different prefixes share a NATS.
        middleware: see :class:`dramatiq.Broker`.
        ack_wait: seconds without a heartbeat after which a message goes to another worker.
        max_deliveries: deliveries of one message before it becomes a dead letter.
        replicas: copies of each stream that JetStream keeps.
        max_store_bytes: space for all streams of an installation, of which the broker's have a
            share (``TAILRACE_MAX_STORE_BYTES``); 0 for no limit.
        prefetch: the most messages that this process holds over all its queues, running ones
            included. It replaces the prefetch of Dramatiq's worker, which is twice its threads for
            each queue. With long-running actors set it to the number of threads, so that no worker
            holds a message that an idle worker could run.
        priority_queues: queues that have priority classes although none of the actors declared
            here has one; see ``priorities``.
        gates: the gates of queues, by name; see ``link.gate``.
        connect_timeout: seconds in which the first connect must succeed.
        enqueue_timeout: seconds that an enqueue waits for JetStream, a reconnect included.
        creds_file: the credentials of a NATS user (JWT and NKey seed). Read at every connect, as
            are the following files.
        token_file: a NATS token.
        ca_file: the certificates of the authorities that sign those of the servers (PEM).
        cert_file: the client certificate (PEM).
        key_file: its private key, if that is in another file.
        client_options: passed to nats-py's ``Client.connect``.

    Raises:
        TypeError: ``url`` is neither a text nor a list of texts.
        ValueError: ``url`` is empty.
    """

    def __init__(  # noqa: PLR0913 - each is a setting, given by name
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        prefix: str = "tr",
        middleware: list[Middleware] | None = None,
        ack_wait: float = 30.0,
        max_deliveries: int = 20,
        replicas: int = 1,
        max_store_bytes: int = 0,
        prefetch: int | None = None,
        priority_queues: Iterable[str] = (),
        gates: Mapping[str, Gate] = _NO_GATES,
        connect_timeout: float = 5.0,
        enqueue_timeout: float = 10.0,
        creds_file: str = "",
        token_file: str = "",
        ca_file: str = "",
        cert_file: str = "",
        key_file: str = "",
        **client_options: Any,
    ) -> None:
        self.connector = Connector(
            ConnectionOptions(
                CommonSettings(
                    nats_url=_joined(url),
                    nats_creds_file=creds_file,
                    nats_token_file=token_file,
                    nats_ca_file=ca_file,
                    nats_cert_file=cert_file,
                    nats_key_file=key_file,
                    nats_connect_timeout=Duration(connect_timeout),
                    nats_replicas=replicas,
                    max_store_bytes=max_store_bytes,
                    prefix=prefix,
                ),
                ack_wait,
                client_options,
            )
        )
        self.ack_wait = ack_wait
        self.max_deliveries = max_deliveries
        self.prefetch = prefetch
        self._subjects = self.connector.subjects
        self._writer = StreamWriter(self.connector, enqueue_timeout)
        self._queue_admin = QueueAdmin(self.connector)
        self._dead_letter_writer = DeadLetterWriter(self.connector, self._writer)
        self._recurring = RecurringMessages(self._subjects, self._writer)
        self._follow_ups = FollowUps()
        self._gates = gates
        self._priority_queues = priorities.PriorityQueues(priority_queues)
        super().__init__(middleware)
        self.actor_options.add(priorities.OPTION)
        self.queues: set[str] = set()

    @property
    def connection(self) -> BrokerConnection:
        """The connection of this process, opened at first use.

        Raises:
            ConnectionFailed: it cannot be opened.
        """
        return self.connector.get()

    @property
    def connection_failure(self) -> str:
        """Why the open connection does not work, as a sentence; empty if it does.

        Does not open a connection.
        """
        return self.connector.failure

    @property
    def counts(self) -> Counts:
        return self.connector.counts

    @property
    def dead_letters(self) -> DeadLetterAdmin:
        """The dead letters of all queues: list, replay or purge them."""
        return DeadLetterAdmin(self.connector)

    def close(self) -> None:
        """Release held messages and close the connection."""
        self.connector.close()

    # Declaring

    def declare_actor(self, actor: "Actor[..., Any]") -> None:
        """Declare an actor.

        Raises:
            ValueError: its ``priority_class`` is invalid.
        """
        self._priority_queues.add_actor(actor)
        super().declare_actor(actor)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue. Has no effect if it is declared already; does not talk to NATS."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        return self.queues.copy()

    # Enqueueing

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Store a message on its queue, and return when JetStream has confirmed it.

        The returned copy of a message that is delayed for half a second or more has the id of its
        schedule in its option ``schedule_id``. If that option is set beforehand, the message
        replaces an earlier one with the same id that is still delayed.

        Args:
            delay: the minimum delay in milliseconds.

        Raises:
            ConnectionClosed: JetStream did not confirm in time; it may still have the message.
            ConnectionFailed: NATS cannot be reached.
            BrokerError: JetStream refused the message.
        """
        try:
            message, publish = self._post(message, delay)
            self._writer.confirm(publish)
        except BrokerError:
            self._follow_ups.note_failed_enqueue()
            raise
        self.emit_after("enqueue", message, delay)
        return message

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the ``after_…`` hooks of the middleware; see ``follow_ups``."""
        if signal != "process_message":
            super().emit_after(signal, *args, **kwargs)
            return
        with self._follow_ups.sending():
            super().emit_after(signal, *args, **kwargs)

    def enqueue_many(
        self, messages: "Iterable[Message[Any]]", *, delay: int | None = None
    ) -> "list[Message[Any]]":
        """Store many messages, without waiting for each before the next is sent.

        Args:
            delay: the minimum delay of each in milliseconds.

        Raises:
            ConnectionClosed: as ``enqueue``. The messages before the one that failed are stored,
                those after it may be.
        """
        enqueued: list[Message[Any]] = []
        in_flight: deque[tuple[Message[Any], Publish]] = deque()

        def confirm_one() -> None:
            message, publish = in_flight.popleft()
            self._writer.confirm(publish)
            self.emit_after("enqueue", message, delay)
            enqueued.append(message)

        for message in messages:
            if len(in_flight) >= _MAX_IN_FLIGHT:
                confirm_one()
            in_flight.append(self._post(message, delay))
        while in_flight:
            confirm_one()
        return enqueued

    def cancel(self, queue_name: str, schedule_id: str) -> bool:
        """Cancel a delayed message; return False if it has run, was cancelled or never was."""
        return self._queue_admin.cancel_delayed(queue_name, schedule_id)

    def enqueue_recurring(
        self,
        message: "Message[Any]",
        pattern: str,
        *,
        schedule_id: str,
        time_zone: str | None = None,
    ) -> None:
        """Enqueue a copy of a message at every firing of a schedule.

        Every copy has a message id and a timestamp of its own. The id belongs to the firing: it is
        the same if the firing is delivered twice.

        Args:
            pattern: ``@every 5m``, a cron line of five or six fields (seconds first), or a name
                like ``@hourly``.
            schedule_id: the id of the schedule; an earlier one with this id is replaced.
            time_zone: the IANA time zone of a cron line; None for UTC.

        Raises:
            ValueError: the pattern or the time zone is invalid.
            ConnectionClosed, ConnectionFailed, BrokerError: as ``enqueue``.
        """
        self._recurring.store(
            message,
            pattern,
            target=self._queue_subject(message),
            schedule_id=schedule_id,
            time_zone=time_zone,
        )

    def cancel_recurring(self, queue_name: str, schedule_id: str) -> bool:
        """End a recurring message; return False if it does not exist."""
        return self._queue_admin.cancel_recurring(queue_name, schedule_id)

    # Consuming

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> NatsConsumer:
        """Return an iterator over the messages of a queue.

        Args:
            prefetch: the most messages to hold, unless the broker has a ``prefetch`` of its own.
            timeout: milliseconds after which the iterator returns None.

        Raises:
            QueueNotFound: the queue was never declared.
            ConnectionFailed: NATS cannot be reached.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        pull = PullOptions(
            queue=queue_name,
            stream=self._subjects.stream(JOBS),
            consumers=[
                jetstream_consumer(self._subjects, queue_name, name, self.ack_wait)
                for name in self._priority_queues.classes_of(queue_name)
            ],
            prefetch=self.prefetch or prefetch,
            is_shared=self.prefetch is not None,
            gate=self._gates.get(queue_name),
        )
        return NatsConsumer(
            self.connection,
            ConsumerOptions(pull, timeout / 1000, self.max_deliveries),
            partial(self._dead_letter_writer.write, queue_name),
            self._follow_ups.take_unsent,
        )

    # Measuring and emptying queues

    def backlog(self) -> dict[str, QueueBacklog]:
        """Return how many messages each declared queue has, in the whole installation.

        Raises:
            ConnectionClosed, ConnectionFailed: NATS is away.
        """
        return self._queue_admin.backlog(self.queues)

    def flush(self, queue_name: str) -> None:
        """Delete all messages of a queue, delayed ones included."""
        self._queue_admin.flush(queue_name)

    def flush_all(self) -> None:
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 20, timeout: int | None = None) -> None:
        """Wait until a queue has no messages: none waiting, none delayed, none running.

        Args:
            queue_name: the queue.
            interval: milliseconds between checks.
            timeout: milliseconds after which to give up; None for no limit.

        Raises:
            QueueNotFound: the queue was never declared.
            QueueJoinTimeout: the timeout has passed.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while not self._queue_admin.is_empty(queue_name):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            time.sleep(interval / 1000)

    # Internal

    def _queue_subject(self, message: "Message[Any]") -> str:
        actor = self.actors.get(message.actor_name)
        class_name = self._priority_queues.class_of(message, actor)
        return self._subjects.job(message.queue_name, class_name)

    def _post(self, message: "Message[Any]", delay: int | None) -> "tuple[Message[Any], Publish]":
        is_named = "schedule_id" in message.options
        is_scheduled = delay is not None and (is_named or delay >= short_delays.MAX_MS)
        if is_scheduled and not is_named:
            message = message.copy(options={"schedule_id": uuid4().hex})
        self.logger.debug("enqueueing message=%s queue=%s", message.message_id, message.queue_name)
        self.emit_before("enqueue", message, delay)
        subject = self._queue_subject(message)
        headers = trace_headers(message)
        if delay is not None and not is_scheduled:
            headers |= short_delays.short_delay_headers(delay)
        elif delay is not None:
            headers |= at_headers(time.time() + delay / 1000, target=subject)
            subject = self._subjects.job_at(message.queue_name, message.options["schedule_id"])
        publish = self._writer.prepare(
            subject,
            encode_message(message),
            headers,
            partial(_count_enqueued, self.counts[message.queue_name]),
        )
        self._writer.post(publish)
        return message, publish


def _count_enqueued(counts: QueueCounts) -> None:
    counts.enqueued += 1
