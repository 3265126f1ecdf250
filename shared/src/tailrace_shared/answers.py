"""Questions to NATS and their answers, over one subscription for all of them.

nats-py's own ``request`` makes an id, a task and a timeout object for each question and, up to
Python 3.11, may lose a cancellation that comes with the answer (python/cpython#86296); it cannot
take more than one answer, so a read of a page would need a subscription of its own. A commit in
the worker is one question: this is its hot path.
"""

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

_NO_RESPONDERS: Final = "503"

Take = Callable[[Msg], None]
T = TypeVar("T")

_BY_CLIENT: "weakref.WeakKeyDictionary[Client, Answers]" = weakref.WeakKeyDictionary()


def answers_over(client: Client, timeout: float) -> "Answers":
    """Return what asks over a connection: one for all who have it, with one subscription."""
    answers = _BY_CLIENT.get(client)
    if answers is None:
        answers = _BY_CLIENT[client] = Answers(client, timeout)
    return answers


class Answers:
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
        self._takers: dict[str, Take] = {}
        self._listening = asyncio.Lock()

    async def ask(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> Msg:
        """Ask a question that has one answer.

        Raises:
            nats.errors.NoRespondersError: nobody listens.
            TimeoutError: no answer in time.
            nats.errors.Error: the connection does not work.
        """
        answered: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(message: Msg) -> None:
            if not answered.done():
                answered.set_result(message)

        message = await self._ask(subject, payload, headers, take, answered)
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

        Raises: as :meth:`ask`, and what ``done`` is given.
        """
        return await self._ask(subject, payload, None, take, done)

    async def _ask(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None,
        take: Take,
        done: asyncio.Future[T],
    ) -> T:
        if not self._inbox:
            await self._listen()
        self._asked += 1
        inbox = f"{self._inbox}.{self._asked}"
        self._takers[inbox] = take
        timer = asyncio.get_running_loop().call_later(self._timeout, _give_up, done)
        if headers is not None:
            headers = {name: _plain(value) for name, value in headers.items()}
        try:
            await self._client.publish(subject, payload, reply=inbox, headers=headers)
            return await done
        finally:
            timer.cancel()
            del self._takers[inbox]

    async def _listen(self) -> None:
        async with self._listening:
            if not self._inbox:
                inbox = self._client.new_inbox()
                await self._client.subscribe(f"{inbox}.*", cb=self._answered)
                self._inbox = inbox

    @property
    def _client(self) -> Client:
        client = self._client_of()
        if client is None:
            raise nats.errors.ConnectionClosedError
        return client

    async def _answered(self, message: Msg) -> None:
        take = self._takers.get(message.subject)
        if take is not None:
            take(message)


class _Plain(str):
    """A header's value that needs no cleaning.

    nats-py looks at every character of every value, which costs more than all else of a message.
    """

    __slots__ = ()

    def strip(self, _chars: str | None = None) -> str:
        return self

    def translate(self, _table: Any) -> str:
        return self


def _plain(value: str) -> str:
    # A line break would begin another header: nats-py replaces it.
    return value if "\n" in value or "\r" in value else _Plain(value.strip())


def _give_up(done: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_exception(TimeoutError())
