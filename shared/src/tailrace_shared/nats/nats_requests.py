"""Questions to NATS and their answers, over one subscription for all of them.

nats-py's own ``request`` makes an id, a task and a timeout object for each question and, up to
Python 3.11, may lose a cancellation that comes with the answer (python/cpython#86296); it cannot
take more than one answer, so a read of a page would need a subscription of its own. A commit in
the worker is one question, and this is its hot path: a question is written as one piece, one timer
does for all of them, and an answer is taken where it is parsed.
"""

import asyncio
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

_NO_RESPONDERS: Final = "503"
_UNFIT_FOR_A_SUBJECT: Final = re.compile(r"\s")
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")

Take = Callable[[Msg], None]
T = TypeVar("T")

_BY_CLIENT: "weakref.WeakKeyDictionary[Client, RequestMultiplexer]" = weakref.WeakKeyDictionary()


def answers_over(client: Client, timeout: float) -> "RequestMultiplexer":
    """Return what asks over a connection: one for all who have it, with one subscription."""
    answers = _BY_CLIENT.get(client)
    if answers is None:
        answers = _BY_CLIENT[client] = RequestMultiplexer(client, timeout)
    return answers


class _Question(NamedTuple):
    take: Take | None
    done: asyncio.Future[Any]
    until: float


class RequestMultiplexer:
    """Asks over one connection. Everything happens on that connection's loop.

    Args:
        client: the connection.
        timeout: how long a question may take to be answered whole, in seconds.
    """

    def __init__(self, client: Client, timeout: float) -> None:
        # Weakly, or the connection could never be forgotten.
        self._client_of = weakref.ref(client)
        self._timeout = timeout
        self._inbox = ""
        self._asked = 0
        # Those that were asked first come first, and all have the same time.
        self._questions: dict[str, _Question] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._listening = asyncio.Lock()

    async def ask(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Ask a question that has one answer.

        Raises:
            nats.errors.NoRespondersError: nobody listens.
            TimeoutError: no answer in time.
            nats.errors.Error: the connection does not work.
        """
        answered: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        message = await self._ask(subject, payload, headers, None, answered)
        if not message.data and (message.headers or {}).get("Status") == _NO_RESPONDERS:
            raise nats.errors.NoRespondersError
        return message

    async def ask_for_many(
        self, subject: str, payload: bytes, take: Take, done: asyncio.Future[T]
    ) -> T:
        """Ask a question with several answers; returns what ``done`` is given.

        Args:
            subject: where to ask.
            payload: what.
            take: called with each answer; sets ``done`` with the last one.
            done: what to wait for.

        Raises: as :meth:`ask`, and what ``done`` is given or ``take`` raises.
        """
        return await self._ask(subject, payload, None, take, done)

    async def _ask(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None,
        take: Take | None,
        done: asyncio.Future[T],
    ) -> T:
        if not self._inbox:
            await self._listen()
        self._asked += 1
        inbox = f"{self._inbox}.{self._asked}"
        until = done.get_loop().time() + self._timeout
        self._questions[inbox] = _Question(take, done, until)
        if self._timer is None:
            self._timer = done.get_loop().call_at(until, self._give_up)
        try:
            await _publish(self._client, subject, payload, inbox, headers)
            return await done
        finally:
            del self._questions[inbox]

    async def _listen(self) -> None:
        async with self._listening:
            if not self._inbox:
                inbox = self._client.new_inbox()
                taker = cast("asyncio.Future[Msg]", _Taker(self._answered))
                await self._client.subscribe(f"{inbox}.*", future=taker)
                self._inbox = inbox

    @property
    def _client(self) -> Client:
        client = self._client_of()
        if client is None:
            raise nats.errors.ConnectionClosedError
        return client

    def _answered(self, message: Msg) -> None:
        question = self._questions.get(message.subject)
        if question is None or question.done.done():
            return
        if question.take is None:
            question.done.set_result(message)
            return
        try:
            question.take(message)
        except Exception as error:  # noqa: BLE001 - raised where it was asked
            # Raised here, it would end the connection's reader.
            if not question.done.done():
                question.done.set_exception(error)

    def _give_up(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for question in self._questions.values():
            if question.until > now:
                self._timer = loop.call_at(question.until, self._give_up)
                return
            if not question.done.done():
                question.done.set_exception(TimeoutError())


class _Taker:
    """Stands for a future that is never done, and passes on what it is given.

    nats-py gives to a future what it has just parsed; what is for a callback lies in a queue until
    a task gets its turn.
    """

    def __init__(self, take: Take) -> None:
        self._take = take

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        self._take(message)


async def _publish(
    client: Client, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None
) -> None:
    is_usual = client.is_connected and not client.is_draining
    is_fit = len(payload) <= client.max_payload and not _UNFIT_FOR_A_SUBJECT.search(subject)
    if not is_usual or not is_fit:
        # It keeps what is said while there is no connection, and refuses what must not be sent.
        await client.publish(subject, payload, reply, dict(headers) if headers else None)
        return
    client.stats["out_msgs"] += 1
    client.stats["out_bytes"] += len(payload)
    # nats-py's publish looks at every character of every header: more than all else of a commit.
    await client._send_command(_command(subject, payload, reply, headers))  # noqa: SLF001
    if client._flush_queue.empty():  # type: ignore[union-attr] # noqa: SLF001
        await client._flush_pending()  # noqa: SLF001


def _command(subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> bytes:
    if not headers:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
    lines = "".join([f"{name}: {_plain(value)}\r\n" for name, value in headers.items()])
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(block) + len(payload)
    first = f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode()
    return b"".join((first, block, payload, b"\r\n"))


def _plain(value: str) -> str:
    # A line break would begin another header.
    return value.translate(_LINE_BREAKS) if "\n" in value or "\r" in value else value
