"""As much of NATS as the hub asks of it, in memory: the stream EVENTS, its reads and its republish.

It can lose live messages, lag, stop and come back, all at once or by a die; a conformance suite
holds it to what the real server does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import UnavailableError
from tailrace_shared.jetstream import JetStream, StoredMessage
from tailrace_shared.subjects import Subjects

Deliver = Callable[[Msg], Awaitable[None]]

_STORED_AT: Final = "2024-01-15T10:30:00.123456789Z"


class _Subscription:
    """A subscription: a queue, and a task that empties it, like nats-py's."""

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
        """Take nothing more."""
        self._nats.subscriptions.discard(self)
        self._task.cancel()


class MemoryNats(JetStream):
    """The server, and at once the client's view of it.

    Attributes:
        subscriptions: who listens.
        is_connected: whether it answers; a client's.
        is_closed: a client's.
        loses: whether a live message never arrives.
        reads: how many reads were answered.
        lag: the newest messages that a Direct Get does not know yet.
        created: when the stream was made.
    """

    is_closed = False

    def __init__(self, subjects: Subjects | None = None) -> None:
        super().__init__(cast("Client", self))
        self.subscriptions: set[_Subscription] = set()
        self.is_connected = True
        self.loses: Callable[[], bool] = lambda: False
        self.reads = 0
        self.lag: Callable[[], int] = lambda: 0
        self.created = "2024-01-15T10:30:00Z"
        self._subjects = subjects or Subjects()
        self._messages: list[StoredMessage] = []
        self._pauses = random.Random(0)

    # What a writer does

    def append(self, tenant: str, execution: str, payload: bytes) -> int:
        """Store a commit and republish it; returns its sequence."""
        subject = self._subjects.log(tenant, execution)
        last = max((m.sequence for m in self._messages if m.subject == subject), default=0)
        sequence = self._messages[-1].sequence + 1 if self._messages else 1
        self._messages.append(StoredMessage(sequence, subject, payload, {}, _STORED_AT))
        headers = {
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

    # What nats-py's client does

    async def subscribe(
        self, subject: str, cb: Deliver, pending_bytes_limit: int = 0
    ) -> _Subscription:
        """Listen to a subject."""
        del pending_bytes_limit
        subscription = _Subscription(self, subject, cb)
        self.subscriptions.add(subscription)
        return subscription

    # What JetStream does

    async def _answer(self) -> None:
        # An answer takes a moment, in which other things happen.
        await asyncio.sleep(self._pauses.choice([0, 0, 0.001, 0.01]))
        if not self.is_connected:
            raise UnavailableError("NATS is away")
        self.reads += 1

    def _known(self) -> list[StoredMessage]:
        return self._messages[: max(0, len(self._messages) - self.lag())]

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer STREAM.INFO."""
        assert action.startswith("STREAM.INFO."), (action, body)
        await self._answer()
        first = self._messages[0].sequence if self._messages else 0
        last = self._messages[-1].sequence if self._messages else 0
        return {"created": self.created, "state": {"first_seq": first, "last_seq": last}}

    async def get(self, stream: str, request: dict[str, Any]) -> StoredMessage | None:
        """Return one message, as a replica has it."""
        del stream
        await self._answer()
        return _one(self._known(), request)

    async def get_newest(self, stream: str, request: dict[str, Any]) -> StoredMessage | None:
        """Return one message, as the leader has it."""
        del stream
        await self._answer()
        return _one(self._messages, request)

    async def batch(self, stream: str, request: dict[str, Any]) -> tuple[list[StoredMessage], int]:
        """Return a page, as a replica has it."""
        del stream
        await self._answer()
        if "multi_last" in request:
            newest = {m.subject: m for m in self._known() if m.subject in request["multi_last"]}
            return sorted(newest.values()), 0
        found = [
            message
            for message in self._known()
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
        return page, len(found) - len(page)


def _matches(subject: str, pattern: str) -> bool:
    return fnmatchcase(subject, pattern.replace(">", "*"))


def _one(messages: list[StoredMessage], request: dict[str, Any]) -> StoredMessage | None:
    for message in reversed(messages):
        if message.sequence == request.get("seq"):
            return message
        if "last_by_subj" in request and _matches(message.subject, request["last_by_subj"]):
            return message
    return None
