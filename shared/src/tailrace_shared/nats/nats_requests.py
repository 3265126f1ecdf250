"""Requests to NATS, multiplexed over one subscription for each connection.

nats-py's own ``request`` creates an id, a task and a timeout object for each request and, up to
Python 3.11, may lose a cancellation that arrives with the reply (python/cpython#86296). It takes
only one reply, so reading a page would need a subscription of its own. A worker's commit is one
request, and this is its hot path: a request is written as one piece, one timer serves all of them,
and a reply is taken where it is parsed.

A request that its caller calls repeatable is sent again each second, for the same reply: a server
that is frozen, or a leader that is being replaced, loses it without a word. While there is no
leader NATS answers that no subscriber listens; such a request is sent again, too. A request with
many replies is sent again after a second of silence; the copy has replies of its own, because those
of two servers would mix. Reads of any replica are not sent again while many replies arrive or this
process is busy: their replies may be large, and copies would delay them further.
"""

import asyncio
import contextlib
import math
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

RESEND_S: Final = 1.0
"""Seconds without a reply after which a repeatable request is sent again."""

_BUSY_BYTES_PER_S: Final = 1024 * 1024
_STALL_S: Final = 0.25
_NO_RESPONDERS: Final = "503"
_UNFIT_FOR_A_SUBJECT: Final = re.compile(r"\s")
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")

OnReply = Callable[[Msg], None]
T = TypeVar("T")

_ByTimeout = dict[float, "RequestMultiplexer"]
_BY_CLIENT: "weakref.WeakKeyDictionary[Client, _ByTimeout]" = weakref.WeakKeyDictionary()


def multiplexer_of(client: Client, timeout: float) -> "RequestMultiplexer":
    """Return the multiplexer of a connection and a timeout: one for all their users."""
    multiplexers = _BY_CLIENT.setdefault(client, {})
    multiplexer = multiplexers.get(timeout)
    if multiplexer is None:
        multiplexer = multiplexers[timeout] = RequestMultiplexer(client, timeout)
    return multiplexer


def fail_pending(client: Client) -> None:
    """Fail all requests over a connection that broke: their replies would come over the old one."""
    for multiplexer in _BY_CLIENT.get(client, {}).values():
        multiplexer.fail_pending()


class _Request(NamedTuple):
    subject: str
    payload: bytes
    headers: Mapping[str, str] | None
    needs_leader: bool = True


class _Pending:
    __slots__ = (
        *("again", "begin_again", "copies", "deadline", "done", "is_heard", "is_refused"),
        *("on_reply", "origin", "resend_at"),
    )

    def __init__(
        self,
        on_reply: OnReply | None,
        done: asyncio.Future[Any],
        deadline: float,
        again: _Request | None,
    ) -> None:
        self.on_reply = on_reply
        self.done = done
        self.deadline = deadline
        self.again = again
        self.resend_at = math.inf
        self.is_refused = False
        # Of a request with many replies that may be sent again.
        self.begin_again: Callable[[], OnReply] | None = None
        self.copies: list[str] = []
        self.origin = self
        self.is_heard = False


class RequestMultiplexer:
    """Sends requests over one connection. Everything runs on that connection's loop."""

    def __init__(self, client: Client, timeout: float) -> None:
        # A weak reference, or the entry in `_BY_CLIENT` would keep the connection alive.
        self._client_ref = weakref.ref(client)
        self._timeout = timeout
        self._inbox = ""
        self._count = 0
        self._pending: dict[str, _Pending] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        # The bytes of all replies, and how many there were at a time.
        self._reply_bytes = 0
        self._measured = (0, 0.0)
        self._resends: set[asyncio.Task[None]] = set()
        self._subscribing = asyncio.Lock()

    async def request(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        is_repeatable: bool = False,
        needs_leader: bool = True,
    ) -> Msg:
        """Send a request and return its only reply, the first one if it was sent several times.

        Args:
            is_repeatable: whether to send it again while there is no reply.
            needs_leader: whether a repeatable request is sent again, too, while no subscriber
                listens, because a leader is being elected.

        Raises:
            nats.errors.NoRespondersError: no subscriber listens on the subject; of a repeatable
                request that needs a leader, until its time was over.
            TimeoutError: no reply in time.
            nats.errors.Error: the connection does not work.
        """
        done: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        again = _Request(subject, payload, headers, needs_leader) if is_repeatable else None
        message = await self._send(subject, payload, headers, None, done, again)
        if _has_no_responders(message):
            raise nats.errors.NoRespondersError
        return message

    async def request_many(
        self,
        subject: str,
        payload: bytes,
        on_reply: OnReply,
        done: asyncio.Future[T],
        begin_again: Callable[[], OnReply] | None = None,
    ) -> T:
        """Send a request with several replies; return the result of ``done``.

        Args:
            on_reply: called with each reply; sets ``done`` with the last one.
            begin_again: returns the callback of a copy of the request, which sets the same
                ``done``. A copy is sent after a second without a reply, and each later one after
                a second more than the one before. By default none is sent.

        Raises: as :meth:`request`, and the exception of ``done`` or of ``on_reply``.
        """
        again = None if begin_again is None else _Request(subject, payload, None)
        return await self._send(subject, payload, None, on_reply, done, again, begin_again)

    async def _send(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None,
        on_reply: OnReply | None,
        done: asyncio.Future[T],
        again: _Request | None = None,
        begin_again: Callable[[], OnReply] | None = None,
    ) -> T:
        if not self._inbox:
            await self._subscribe()
        inbox = self._next_inbox()
        now = done.get_loop().time()
        pending = _Pending(on_reply, done, now + self._timeout, again)
        if again is not None:
            pending.resend_at = now + RESEND_S
            pending.begin_again = begin_again
        self._pending[inbox] = pending
        if self._timer is None:
            self._measured = (self._reply_bytes, now)
            self._set_timer(min(pending.deadline, now + RESEND_S))
        try:
            await _publish(self._client, subject, payload, inbox, headers)
            return await done
        finally:
            del self._pending[inbox]
            for copy in pending.copies:
                del self._pending[copy]

    def _next_inbox(self) -> str:
        self._count += 1
        return f"{self._inbox}.{self._count}"

    async def _subscribe(self) -> None:
        async with self._subscribing:
            if not self._inbox:
                inbox = self._client.new_inbox()
                callback = cast("asyncio.Future[Msg]", _CallbackFuture(self._on_message))
                await self._client.subscribe(f"{inbox}.*", future=callback)
                self._inbox = inbox

    @property
    def _client(self) -> Client:
        client = self._client_ref()
        if client is None:
            raise nats.errors.ConnectionClosedError
        return client

    def fail_pending(self) -> None:
        """Fail all requests that have no reply yet: the connection they were sent over broke."""
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(nats.errors.ConnectionReconnectingError())

    def _on_message(self, message: Msg) -> None:
        pending = self._pending.get(message.subject)
        if pending is None or pending.done.done():
            return
        self._reply_bytes += len(message.data)
        if pending.on_reply is None:
            again = pending.again
            pending.is_refused = (
                again is not None and again.needs_leader and _has_no_responders(message)
            )
            if not pending.is_refused:
                pending.done.set_result(message)
            return
        pending.origin.is_heard = True
        try:
            pending.on_reply(message)
        except Exception as error:  # noqa: BLE001 - raised in the task that sent the request
            # Raised here, it would end the connection's reader.
            if not pending.done.done():
                pending.done.set_exception(error)

    def _set_timer(self, when: float) -> None:
        self._due = when
        self._timer = asyncio.get_running_loop().call_at(when, self._on_time)

    def _on_time(self) -> None:
        """Fail the requests whose time is over, and send those again that may be lost."""
        now, following = asyncio.get_running_loop().time(), math.inf
        self._timer = None
        is_busy = self._is_busy(now)
        for inbox, pending in list(self._pending.items()):
            if pending.done.done():
                continue
            if pending.deadline <= now:
                refused = nats.errors.NoRespondersError()
                pending.done.set_exception(refused if pending.is_refused else TimeoutError())
                continue
            if pending.again is not None and pending.resend_at <= now:
                pending.resend_at = now + RESEND_S
                is_of_any_replica = pending.begin_again or not pending.again.needs_leader
                if not (is_busy and is_of_any_replica):
                    self._send_again(pending.again, inbox, pending)
            following = min(following, pending.deadline, pending.resend_at)
        if following < math.inf:
            self._set_timer(min(following, now + RESEND_S))

    def _is_busy(self, now: float) -> bool:
        """Return whether replies may be late because of other replies or of this process."""
        before, measured_at = self._measured
        received, seconds = self._reply_bytes - before, max(now - measured_at, RESEND_S)
        if now - measured_at >= RESEND_S:
            self._measured = (self._reply_bytes, now)
        return now - self._due > _STALL_S or received > _BUSY_BYTES_PER_S * seconds

    def _send_again(self, request: _Request, inbox: str, pending: _Pending) -> None:
        if pending.begin_again is not None:
            if pending.is_heard:
                pending.is_heard = False
                return
            # A busy server that is merely slow gets few copies.
            pending.resend_at += RESEND_S * len(pending.copies)
            inbox = self._next_inbox()
            copy = _Pending(pending.begin_again(), pending.done, pending.deadline, None)
            copy.origin = pending
            pending.copies.append(inbox)
            self._pending[inbox] = copy
        task = asyncio.get_running_loop().create_task(self._publish_again(request, inbox))
        self._resends.add(task)
        task.add_done_callback(self._resends.discard)

    async def _publish_again(self, request: _Request, inbox: str) -> None:
        # A connection that broke fails the request itself.
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._client.is_connected:
                await _publish(
                    self._client, request.subject, request.payload, inbox, request.headers
                )


class _CallbackFuture:
    """A future that is never done and passes each result to a callback.

    nats-py sets a subscription's future as soon as a message is parsed. A callback's message waits
    in a queue until a task gets its turn.
    """

    def __init__(self, callback: OnReply) -> None:
        self._callback = callback

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        self._callback(message)


def _has_no_responders(message: Msg) -> bool:
    return not message.data and (message.headers or {}).get("Status") == _NO_RESPONDERS


async def _publish(
    client: Client, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None
) -> None:
    is_usual = client.is_connected and not client.is_draining
    is_valid = len(payload) <= client.max_payload and not _UNFIT_FOR_A_SUBJECT.search(subject)
    if not is_usual or not is_valid:
        # nats-py buffers while there is no connection, and refuses invalid messages.
        await client.publish(subject, payload, reply, dict(headers) if headers else None)
        return
    client.stats["out_msgs"] += 1
    client.stats["out_bytes"] += len(payload)
    # nats-py's publish checks each character of each header: more work than the rest of a commit.
    await client._send_command(_command(subject, payload, reply, headers))  # noqa: SLF001
    if client._flush_queue.empty():  # type: ignore[union-attr] # noqa: SLF001
        await client._flush_pending()  # noqa: SLF001


def _command(subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> bytes:
    if not headers:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
    lines = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in headers.items()])
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(block) + len(payload)
    first = f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode()
    return b"".join((first, block, payload, b"\r\n"))


def _one_line(value: str) -> str:
    # A line break would let a value inject another header.
    return value.translate(_LINE_BREAKS) if "\n" in value or "\r" in value else value
