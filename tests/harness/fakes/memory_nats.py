"""The part of NATS that the hub uses, in memory: the log with its reads and republish, and buckets.

It can lose live messages, lag, be unavailable, have an older leader answer during a partition, and
lose data. A conformance suite compares it with the real server.
"""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar, cast

from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import UnavailableError, WrongLastSequenceError
from tailrace_shared.nats.jetstream import (
    EXPECTED_LAST_SUBJECT_SEQUENCE,
    Batch,
    JetStream,
    StoredMessage,
)
from tailrace_shared.nats.topology import EVENTS, STARTS
from tailrace_shared.subjects import LogFilter, Subjects

Deliver = Callable[[Msg], Awaitable[None]]
F = TypeVar("F", bound=Callable[..., Any])

_STORED_AT: Final = "2024-01-15T10:30:00.123456789Z"
# A leader that has not heard from a majority for so long may have a successor.
_NO_QUORUM_NS: Final = 4_000_000_000
_NOTHING: Final[Mapping[str, str]] = {}


def _answered(answer: F) -> F:
    """Let an answer take time, on the way to the server and back."""

    @functools.wraps(answer)
    async def answered(self: "MemoryNats", *arguments: Any, **named: Any) -> Any:
        await self.travel()
        self.reads += 1
        found = await answer(self, *arguments, **named)
        await self.travel()
        return found

    return cast("F", answered)


class _Subscription:
    """A subscription with a queue and a task that empties it, like nats-py's."""

    def __init__(self, nats: "MemoryNats", subject: str, deliver: Deliver) -> None:
        self.subject = subject
        self.queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._nats = nats
        self._deliver = deliver
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._deliver(await self.queue.get())

    async def unsubscribe(self) -> None:
        """End the subscription."""
        self._nats.subscriptions.pop(self, None)
        self._task.cancel()


class MemoryNats(JetStream):
    """The server, and the client that is connected to it.

    Attributes:
        is_connected: whether it responds.
        is_closed: whether the client is closed; never.
        loses: returns whether to lose a live message.
        reads: number of requests served.
        lag: returns the number of newest messages that a Direct Get does not see yet.
        created: the creation time of the stream.
        replicas: the number of replicas of the log.
        stale_at: the last sequence of the older leader of the log that answers now, on its side
            of a partition; None while the real leader answers.
        stale_reads_at: the same of an older leader that only reads of messages reach, besides
            the real one.
        silent: the number of replicas that the leader has not heard from lately.
    """

    is_closed = False

    def __init__(self, subjects: Subjects | None = None) -> None:
        super().__init__(cast("Client", self))
        # In order: a set would make the losses of a seed depend on addresses.
        self.subscriptions: dict[_Subscription, None] = {}
        self.is_connected = True
        self.loses: Callable[[], bool] = lambda: False
        self.reads = 0
        self.lag: Callable[[], int] = lambda: 0
        self.created = "2024-01-15T10:30:00Z"
        self.replicas = 1
        self.stale_at: int | None = None
        self.stale_reads_at: int | None = None
        self.silent = 0
        self._max_age = 0
        self._subjects = subjects or Subjects()
        self._streams: dict[str, list[StoredMessage]] = {}
        self._last: dict[str, int] = {}
        self._pauses = random.Random(0)

    # Writers

    def append(
        self, tenant: str, execution: str, payload: bytes, extra: Mapping[str, str] = _NOTHING
    ) -> int:
        """Store a commit and republish it; return its sequence."""
        subject = self._subjects.log(tenant, execution)
        stored = self._stream(self._subjects.stream(EVENTS))
        last = max((m.sequence for m in stored if m.subject == subject), default=0)
        sequence = self._store(self._subjects.stream(EVENTS), subject, payload, dict(extra))
        headers = {
            **extra,
            "Nats-Subject": subject,
            "Nats-Sequence": str(sequence),
            "Nats-Last-Sequence": str(last),
            "Nats-Time-Stamp": _STORED_AT,
        }
        live = self._subjects.live(tenant, execution)
        for subscription in self.subscriptions:
            if _matches(live, subscription.subject) and self.is_connected and not self.loses():
                message = Msg(cast("Client", self), live, data=payload, headers=headers)
                subscription.queue.put_nowait(message)
        return sequence

    def _stream(self, name: str) -> list[StoredMessage]:
        return self._streams.setdefault(name, [])

    def _store(self, stream: str, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        sequence = self._last[stream] = self._last.get(stream, 0) + 1
        message = StoredMessage(sequence, subject, payload, headers, _STORED_AT)
        self._stream(stream).append(message)
        return sequence

    def expire(self, sequence: int) -> None:
        """Remove all commits up to a sequence, like the stream's maximum age."""
        name = self._subjects.stream(EVENTS)
        self._max_age = 1
        self._streams[name] = [m for m in self._stream(name) if m.sequence > sequence]

    def lose(self, sequence: int) -> None:
        """Go back to a sequence, like a server that has lost data, or a restored backup."""
        name = self._subjects.stream(EVENTS)
        self._streams[name] = [m for m in self._stream(name) if m.sequence <= sequence]
        self._last[name] = sequence

    @property
    def last_sequence(self) -> int:
        """The last sequence of the log."""
        return self._last.get(self._subjects.stream(EVENTS), 0)

    def commits_of(self, tenant: str, first: int, last: int) -> list[int]:
        """Return the sequences of a tenant's commits between two sequences."""
        pattern = self._subjects.log_of(LogFilter(tenant))
        stored = self._stream(self._subjects.stream(EVENTS))
        within = (m for m in stored if first <= m.sequence <= last)
        return [m.sequence for m in within if _matches(m.subject, pattern)]

    # The client of nats-py

    async def subscribe(
        self, subject: str, cb: Deliver, pending_bytes_limit: int = 0
    ) -> _Subscription:
        """Subscribe to a subject."""
        del pending_bytes_limit
        subscription = _Subscription(self, subject, cb)
        self.subscriptions[subscription] = None
        return subscription

    # JetStream

    async def travel(self) -> None:
        """Take the time of a request, or of an answer, in which other tasks run.

        What is stored meanwhile is not in the answer, but its live message may come before it.
        """
        await asyncio.sleep(self._pauses.choice([0, 0, 0.001, 0.01]))
        if not self.is_connected:
            raise UnavailableError("NATS is unavailable")

    def _known(self, stream: str) -> list[StoredMessage]:
        stored, _ = self._leader(stream)
        return stored[: max(0, len(stored) - self.lag())]

    def _leader(self, stream: str) -> tuple[list[StoredMessage], int | None]:
        """Return the messages of the leader that answers; and its last one, if it is an old one."""
        stored = self._stream(stream)
        stale_at = self.stale_at if stream == self._subjects.stream(EVENTS) else None
        if stale_at is None:
            return stored, None
        return [message for message in stored if message.sequence <= stale_at], stale_at

    def _cluster(self, *, is_stale: bool) -> dict[str, Any]:
        silent = self.replicas if is_stale else self.silent
        others = [
            {"name": f"n{number}", "active": _NO_QUORUM_NS if number <= silent else 0}
            for number in range(1, self.replicas)
        ]
        return {"leader": "n0", **({"replicas": others} if others else {})}

    @_answered
    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer STREAM.INFO and STREAM.PURGE."""
        _, verb, stream = action.split(".")
        stored = self._stream(stream)
        if verb == "PURGE":
            assert body is not None
            rest = [message for message in stored if message.subject != body["filter"]]
            self._streams[stream] = rest
            return {"purged": len(stored) - len(rest)}
        assert verb == "INFO", (action, body)
        stored, stale_at = self._leader(stream)
        last = self._last.get(stream, 0) if stale_at is None else stale_at
        first = stored[0].sequence if stored else last + 1 if last else 0
        state: dict[str, Any] = {"first_seq": first, "last_seq": last}
        answer: dict[str, Any] = {
            "config": {"max_age": self._max_age},
            "created": self.created,
            "state": state,
            "cluster": self._cluster(is_stale=stale_at is not None),
        }
        if body and "subjects_filter" in body:
            subjects = {
                message.subject: 1
                for message in stored
                if _matches(message.subject, body["subjects_filter"])
            }
            answer["total"] = len(subjects)
            state["subjects"] = dict(list(subjects.items())[body.get("offset", 0) :])
        return answer

    @_answered
    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> int:
        """Set a key of a bucket, or add a row to the start index."""
        root, bucket, _key = subject.split(".", 2)
        if bucket == "starts":
            return self._store(self._subjects.stream(STARTS), subject, payload, headers or {})
        assert root == "$KV", subject
        stream = f"KV_{bucket}"
        stored, headers = self._stream(stream), headers or {}
        last = max((m.sequence for m in stored if m.subject == subject), default=0)
        expected = headers.get(EXPECTED_LAST_SUBJECT_SEQUENCE)
        if expected is not None and int(expected) != last:
            raise WrongLastSequenceError(10071, f"wrong last sequence: {last}")
        self._streams[stream] = [message for message in stored if message.subject != subject]
        return self._store(stream, subject, payload, headers)

    @_answered
    async def get(self, stream: str, request: dict[str, Any]) -> StoredMessage | None:
        """Return one message, as a replica has it."""
        return _one(self._known(stream), request)

    @_answered
    async def get_newest(
        self,
        stream: str,
        request: dict[str, Any],
        at_least: int = 0,
        *,
        is_optional: bool = False,
    ) -> StoredMessage | None:
        """Return one message, as the leader has it."""
        del is_optional
        known = self._leader(stream)[0]
        if self.stale_reads_at is not None and stream == self._subjects.stream(EVENTS):
            known = [message for message in known if message.sequence <= self.stale_reads_at]
        message = _one(known, request)
        if message is not None and message.sequence >= at_least:
            return message
        return _one(self._stream(stream), request) if at_least else message

    @_answered
    async def batch_up_to(self, stream: str, request: dict[str, Any]) -> Batch:
        """Return a page as a replica that may lag has it."""
        known = self._known(stream)
        if "multi_last" in request:
            newest = {m.subject: m for m in known if m.subject in request["multi_last"]}
            up_to = known[-1].sequence if newest else None
            if newest and known[-1:] == self._stream(stream)[-1:]:
                up_to = self._last[stream]
            return Batch(sorted(newest.values()), 0, up_to)
        found = [
            message
            for message in known
            if message.sequence >= request["seq"]
            and _matches(message.subject, request["next_by_subj"])
        ]
        page: list[StoredMessage] = []
        size = 0
        for message in found[: request["batch"]]:
            if page and size >= request["max_bytes"]:
                break
            page.append(message)
            size += len(message.data)
        return Batch(page, len(found) - len(page), None)


def _matches(subject: str, pattern: str) -> bool:
    if pattern.endswith(".>"):
        return fnmatchcase(subject, f"{pattern[:-1]}*")
    tokens, wanted = subject.split("."), pattern.split(".")
    return len(tokens) == len(wanted) and all(
        each in ("*", token) for token, each in zip(tokens, wanted, strict=True)
    )


def _one(messages: list[StoredMessage], request: dict[str, Any]) -> StoredMessage | None:
    if "next_by_subj" in request:
        subject, sequence = request["next_by_subj"], request["seq"]
        fitting = (m for m in messages if m.sequence >= sequence and _matches(m.subject, subject))
        return next(fitting, None)
    for message in reversed(messages):
        if message.sequence == request.get("seq"):
            return message
        if "last_by_subj" in request and _matches(message.subject, request["last_by_subj"]):
            return message
    return None
