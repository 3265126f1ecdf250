"""A Dramatiq broker on NATS JetStream.

Theory of operation. A queue is a subject, ``<prefix>.jobs.<queue>``, in one work-queue stream, and
one durable pull consumer that all workers share. Enqueueing stores a message and waits for
JetStream's confirmation; acknowledging removes it. Nothing else holds state:

- A *delay* is a message schedule in the same stream (ADR-51): JetStream itself moves the message
  to its queue when the time has come. No worker keeps delayed messages in memory, so there are no
  delay queues to declare.
- A *recurring* message is a schedule too: JetStream puts out a copy at every firing.
- A *retry* is Dramatiq's: its middleware enqueues the message again with a delay, and the failed
  delivery is acknowledged.
- A *crash* is noticed by silence: while a message is prefetched or runs, the connection's own
  thread sends heartbeats for it. When they stop, JetStream delivers it to another worker within
  the ack wait. What is delivered more than ``max_deliveries`` times becomes a dead letter.
- A *dead letter* is a message in a second stream, stored before the original is acknowledged.

Delivery is at least once. A message runs twice only if its worker died, hung beyond the ack wait
or lost NATS between the effect and the ack.
"""

import concurrent.futures
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import uuid4

from dramatiq import Actor, Message
from dramatiq.broker import Broker
from dramatiq.errors import BrokerError, ConnectionClosed, QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware

from tailrace_shared.errors import JetStreamError
from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.jobs import at_headers, recurring_headers
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.stores.dead_letters import death_headers, without_traceback
from tailrace_shared.subjects import Subjects, queue_token
from tailrace_worker.broker import priorities
from tailrace_worker.broker.consumer import NatsConsumer
from tailrace_worker.broker.counts import Counts, QueueCounts
from tailrace_worker.broker.dead_letters import DeadLetterAdmin
from tailrace_worker.broker.delivery import Delivery
from tailrace_worker.broker.link.connection import Connection, ConnectionOptions, Connector
from tailrace_worker.broker.link.publisher import Publish
from tailrace_worker.broker.message import encode_message, trace_headers

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

#: Publishes that ``enqueue_many`` has under way at once.
_PIPELINE: Final = 2_000
#: Bytes that an enqueued message leaves for the headers it gets should it become a dead letter.
_GRAVE_ROOM: Final = 2048
#: Direct Get's answer when more subjects match than it gives at once.
_TOO_MANY_SUBJECTS: Final = 413
#: JetStream's codes for an invalid pattern and an invalid time zone.
_BAD_SCHEDULE: Final = {10189, 10223}


class Backlog(NamedTuple):
    """How many messages a queue has: those that may run or do, and those whose time has to come."""

    queued: int
    delayed: int


class _FollowUp(threading.local):
    """What became of a retry or successor that this worker thread had to send."""

    is_under_way = False
    is_unsent = False


class NatsBroker(Broker):
    """A broker that can be used with NATS JetStream.

    Args:
        url: the server, or several separated by commas.
        prefix: the first token of all subjects; brokers with different prefixes share a NATS.
        middleware: see :class:`dramatiq.Broker`.
        ack_wait: seconds without a heartbeat after which a message goes to another worker.
        max_deliveries: deliveries of one message before it becomes a dead letter.
        replicas: copies of each stream that JetStream keeps.
        prefetch: the most messages that this process holds, over all its queues, running ones
            included; instead of what Dramatiq's worker asks for, which is twice its threads for
            each queue. With long-running actors set it to the number of threads, so that no
            worker sits on what an idle one could run.
        priority_queues: queues that have priority classes although none of the actors declared
            here does; see ``priorities``.
        connect_timeout: seconds in which the first connect must succeed.
        enqueue_timeout: seconds an enqueue waits for JetStream, a reconnect included.
        client_options: passed to nats-py's ``Client.connect``: credentials, TLS and so on.
    """

    def __init__(  # noqa: PLR0913 - each is a setting, given by name
        self,
        url: str = DEFAULT_URL,
        *,
        prefix: str = "tr",
        middleware: list[Middleware] | None = None,
        ack_wait: float = 30.0,
        max_deliveries: int = 20,
        replicas: int = 1,
        prefetch: int | None = None,
        priority_queues: Iterable[str] = (),
        connect_timeout: float = 5.0,
        enqueue_timeout: float = 10.0,
        **client_options: Any,
    ) -> None:
        self.connector = Connector(
            ConnectionOptions(url, prefix, replicas, connect_timeout, ack_wait, client_options)
        )
        self.ack_wait = ack_wait
        self.max_deliveries = max_deliveries
        self.prefetch = prefetch
        self.enqueue_timeout = enqueue_timeout
        self._follow_up = _FollowUp()
        super().__init__(middleware)
        self.actor_options.add(priorities.OPTION)
        self.queues: set[str] = set()
        self._priority_queues = set(priority_queues)

    @property
    def connection(self) -> Connection:
        """The connection of this process, opened at first use.

        Raises:
            ConnectionFailed: it cannot be opened.
        """
        return self.connector.get()

    def close(self) -> None:
        """Give back what is held and close the connection."""
        self.connector.close()

    # Declaring

    def declare_actor(self, actor: "Actor[..., Any]") -> None:
        """Declare an actor.

        Raises:
            ValueError: its ``priority_class`` is none that there is.
        """
        if priorities.class_of_actor(actor) != priorities.NORMAL:
            self._priority_queues.add(actor.queue_name)
        super().declare_actor(actor)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue. Has no effect if it has been declared; does not talk to NATS."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of all queues declared so far."""
        return self.queues.copy()

    # Enqueueing

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Store a message on its queue, and return when JetStream has confirmed it.

        A delayed message has the id of its schedule in its option ``schedule_id``. If that option
        is set beforehand, the message replaces an earlier one with the same id that is still
        delayed.

        Args:
            message: the message.
            delay: milliseconds to delay it by at least.

        Raises:
            ConnectionClosed: JetStream did not confirm in time; it may still have the message.
            ConnectionFailed: NATS cannot be reached.
            BrokerError: JetStream refused the message.
        """
        try:
            message, publish = self._publish(message, delay)
            self._wait(publish)
        except BrokerError:
            self._follow_up.is_unsent |= self._follow_up.is_under_way
            raise
        self.emit_after("enqueue", message, delay)
        return message

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Tell the middleware what has happened.

        After a message was processed, middleware enqueues its retry or its successor. Dramatiq
        logs an exception there and acknowledges the message all the same; ``take_unsent`` lets the
        consumer know better.
        """
        if signal != "process_message":
            super().emit_after(signal, *args, **kwargs)
            return
        self._follow_up.is_under_way, self._follow_up.is_unsent = True, False
        try:
            super().emit_after(signal, *args, **kwargs)
        finally:
            self._follow_up.is_under_way = False

    def take_unsent(self) -> bool:
        """Tell whether the message that this thread has processed left a follow-up unsent."""
        is_unsent, self._follow_up.is_unsent = self._follow_up.is_unsent, False
        return is_unsent

    def enqueue_many(
        self, messages: "Iterable[Message[Any]]", *, delay: int | None = None
    ) -> "list[Message[Any]]":
        """Store many messages, without waiting for each before the next is sent.

        Raises:
            ConnectionClosed: as ``enqueue``. The messages before the one that failed are stored,
                those after it may be.
        """
        enqueued: list[Message[Any]] = []
        waiting: deque[tuple[Message[Any], Publish]] = deque()

        def confirm_one() -> None:
            message, publish = waiting.popleft()
            self._wait(publish)
            self.emit_after("enqueue", message, delay)
            enqueued.append(message)

        for message in messages:
            if len(waiting) >= _PIPELINE:
                confirm_one()
            waiting.append(self._publish(message, delay))
        while waiting:
            confirm_one()
        return enqueued

    def cancel(self, queue_name: str, schedule_id: str) -> bool:
        """Cancel a delayed message; False if there is none: it ran, or was cancelled before."""
        return self._purge(self._subjects.job_at(queue_name, schedule_id)) > 0

    def enqueue_recurring(
        self,
        message: "Message[Any]",
        pattern: str,
        *,
        schedule_id: str,
        time_zone: str | None = None,
    ) -> None:
        """Enqueue a copy of a message again and again.

        Every copy has a message id and a timestamp of its own. The id is that of the firing: it
        is the same if the firing is delivered twice.

        Args:
            message: the message.
            pattern: ``@every 5m``, a cron line of six fields (seconds first), or a name like
                ``@hourly``.
            schedule_id: names the schedule; an earlier one with this id is replaced.
            time_zone: the IANA time zone of a cron line, UTC if none.

        Raises:
            ValueError: the pattern or the time zone is none.
            ConnectionClosed, ConnectionFailed, BrokerError: as ``enqueue``.
        """
        target = self._subjects.job(message.queue_name, self._class_of(message))
        publish = Publish(
            self._subjects.job_cron(message.queue_name, schedule_id),
            encode_message(message),
            recurring_headers(pattern, target=target, time_zone=time_zone),
            self._deadline(),
            stored=_nothing,
        )
        self._post(publish)
        try:
            self._wait(publish)
        except BrokerError as error:
            if _refusal(error) in _BAD_SCHEDULE:
                zone = f" in {time_zone}" if time_zone else ""
                raise ValueError(f"{pattern!r}{zone} is not a schedule: {error}") from None
            raise

    def cancel_recurring(self, queue_name: str, schedule_id: str) -> bool:
        """End a recurring message; False if there is none."""
        return self._purge(self._subjects.job_cron(queue_name, schedule_id)) > 0

    # Consuming

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> NatsConsumer:
        """Return an iterator over the messages of a queue.

        Raises:
            QueueNotFound: the queue was never declared.
            ConnectionFailed: NATS cannot be reached.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        return NatsConsumer(self, self.connection, queue_name, prefetch, timeout)

    def consumers_of(self, queue_name: str) -> list[dict[str, Any]]:
        """Return the configuration of a queue's JetStream consumers, the most urgent first."""
        classes = (
            priorities.CLASSES if queue_name in self._priority_queues else (priorities.NORMAL,)
        )
        return [self._consumer(queue_name, name) for name in classes]

    def dead_letter(
        self,
        connection: Connection,
        delivery: Delivery,
        *,
        queue: str,
        reason: str,
        exception: BaseException | None,
    ) -> None:
        """Store a delivered message as a dead letter.

        Raises:
            ConnectionClosed: JetStream did not confirm it.
        """
        headers = death_headers(
            delivery.headers,
            queue=queue,
            subject=delivery.subject,
            deliveries=delivery.deliveries,
            reason=reason,
            error="" if exception is None else f"{type(exception).__name__}: {exception}",
            traceback="".join(traceback.format_exception(exception)) if exception else "",
        )
        # Named after the message, so that burying again after a lost answer stores it once.
        headers["Nats-Msg-Id"] = "dead-{}-{}".format(*delivery.identity)
        publish = Publish(
            self._subjects.dead(queue),
            delivery.data,
            headers,
            self._deadline(),
            stored=partial(_count_dead, self.counts[queue]),
        )
        if publish.size > connection.client.max_payload:
            publish.headers = without_traceback(publish.headers)
        self._post(publish, connection, room=0)
        self._wait(publish)

    @property
    def counts(self) -> Counts:
        """What this process has done with each queue."""
        return self.connector.counts

    def backlog(self) -> dict[str, Backlog]:
        """Return how many messages each declared queue has, in all of the installation.

        Raises:
            ConnectionClosed, ConnectionFailed: NATS is away.
        """
        connection = self.connection
        subjects = connection.call(
            partial(subject_counts, connection.jetstream, self._subjects.stream(JOBS))
        )
        return {name: self._backlog_of(name, subjects) for name in self.queues}

    @property
    def dead_letters(self) -> DeadLetterAdmin:
        """The dead letters of all queues: list, replay or purge them."""
        return DeadLetterAdmin(self.connector)

    # Emptying and waiting

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue, the delayed ones too."""
        for subject in self._queue_subjects(queue_name):
            self._purge(subject)

    def flush_all(self) -> None:
        """Drop all messages of all declared queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 20, timeout: int | None = None) -> None:
        """Wait until a queue has no messages: none waiting, none delayed, none running.

        Args:
            queue_name: the queue.
            interval: milliseconds between looks.
            timeout: milliseconds after which to give up.

        Raises:
            QueueNotFound: the queue was never declared.
            QueueJoinTimeout: the timeout has passed.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while not self._is_empty(queue_name):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            time.sleep(interval / 1000)

    # Within

    @property
    def _subjects(self) -> Subjects:
        return self.connector.subjects

    def _deadline(self) -> float:
        return time.monotonic() + self.enqueue_timeout

    def _class_of(self, message: "Message[Any]") -> str:
        actor = self.actors.get(message.actor_name)
        name = priorities.class_of_message(message, actor)
        if name != priorities.NORMAL and message.queue_name not in self._priority_queues:
            raise ValueError(
                f"queue {message.queue_name!r} has no priority classes: "
                "give one of its actors a priority, or name the queue in priority_queues"
            )
        return name

    def _consumer(self, queue_name: str, class_name: str) -> dict[str, Any]:
        token = queue_token(queue_name)
        return {
            # No queue token has a percent sign followed by a letter of these.
            "durable_name": token if class_name == priorities.NORMAL else f"{token}%{class_name}",
            "filter_subject": self._subjects.job(queue_name, class_name),
            "ack_policy": "explicit",
            "ack_wait": int(self.ack_wait * 1e9),
            # Deliveries are counted here, so that the message lands among the dead letters.
            "max_deliver": -1,
            "max_ack_pending": -1,
            "max_waiting": 4096,
        }

    def _publish(
        self, message: "Message[Any]", delay: int | None
    ) -> "tuple[Message[Any], Publish]":
        if delay is not None and "schedule_id" not in message.options:
            message = message.copy(options={"schedule_id": uuid4().hex})
        self.logger.debug(
            "Enqueueing message %r on queue %r.", message.message_id, message.queue_name
        )
        self.emit_before("enqueue", message, delay)
        subject = self._subjects.job(message.queue_name, self._class_of(message))
        headers = trace_headers(message)
        if delay is not None:
            headers |= at_headers(time.time() + delay / 1000, target=subject)
            subject = self._subjects.job_at(message.queue_name, message.options["schedule_id"])
        publish = Publish(
            subject,
            encode_message(message),
            headers,
            self._deadline(),
            stored=partial(_count_enqueued, self.counts[message.queue_name]),
        )
        self._post(publish)
        return message, publish

    def _post(
        self, publish: Publish, connection: Connection | None = None, *, room: int = _GRAVE_ROOM
    ) -> None:
        connection = connection or self.connection
        limit = connection.client.max_payload - room
        # NATS would not refuse it but cut the connection, again and again.
        if publish.size > limit:
            raise BrokerError(
                f"the message has {publish.size} bytes with its headers, more than {limit}, "
                "which this NATS accepts (with room for what a dead letter adds)"
            )
        connection.post(partial(connection.publisher.publish, publish))

    def _wait(self, publish: Publish) -> int:
        try:
            # The publisher keeps the deadline; this is for a loop that does not run any more.
            return publish.result.result(self.enqueue_timeout + 5)
        except (TimeoutError, concurrent.futures.CancelledError):
            raise ConnectionClosed("the connection to NATS is closed") from None

    def _backlog_of(self, queue_name: str, subjects: dict[str, int]) -> Backlog:
        delayed = self._subjects.delayed(queue_name).removesuffix("*")
        return Backlog(
            queued=sum(
                subjects.get(self._subjects.job(queue_name, name), 0) for name in priorities.CLASSES
            ),
            delayed=sum(subject.startswith(delayed) for subject in subjects),
        )

    def _queue_subjects(self, queue_name: str) -> list[str]:
        subject = self._subjects.job(queue_name)
        # One token below lie its classes; a schedule id is one token too.
        return [subject, f"{subject}.*", self._subjects.delayed(queue_name)]

    def _purge(self, subject: str) -> int:
        connection = self.connection
        answer = connection.call(
            partial(
                connection.jetstream.api,
                f"STREAM.PURGE.{self._subjects.stream(JOBS)}",
                {"filter": subject},
            )
        )
        purged: int = answer["purged"]
        return purged

    def _is_empty(self, queue_name: str) -> bool:
        connection = self.connection
        # One request for all, answered from one state of the stream: a message on its way from
        # its schedule to its queue, or back for a retry, is seen in one or the other.
        request = {"multi_last": self._queue_subjects(queue_name), "batch": 1}
        try:
            page, _ = connection.call(
                partial(connection.jetstream.batch, self._subjects.stream(JOBS), request)
            )
        except BrokerError as error:
            if _refusal(error) == _TOO_MANY_SUBJECTS:
                return False
            raise
        return not page


def _count_enqueued(counts: QueueCounts) -> None:
    counts.enqueued += 1


def _count_dead(counts: QueueCounts) -> None:
    counts.dead += 1


def _nothing() -> None:
    pass


def _refusal(error: BrokerError) -> int | None:
    cause = error.__cause__
    return cause.code if isinstance(cause, JetStreamError) else None
