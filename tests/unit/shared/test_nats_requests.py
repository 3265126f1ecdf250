"""Questions and answers, as far as they can be looked at without a server."""

import asyncio
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.nats.nats_requests import RequestMultiplexer


class _Server(Client):
    """Keeps what it is asked, and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: list[str] = []
        self.asked: list[str] = []
        self._taker: asyncio.Future[Msg]

    async def subscribe(self, subject: str, *_: Any, future: Any = None, **__: Any) -> Any:
        """Take note of a subscription."""
        await asyncio.sleep(0)
        self.subscriptions.append(subject)
        self._taker = future

    async def publish(
        self,
        subject: str,  # noqa: ARG002 - as nats-py has it
        payload: bytes = b"",  # noqa: ARG002
        reply: str = "",
        headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> None:
        """Take note of a question."""
        self.asked.append(reply)

    def answer(self, question: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer the question with that number."""
        reply = self.asked[question]
        self._taker.set_result(Msg(self, subject=reply, data=data, headers=headers))


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_questions_share_one_subscription() -> None:
    """Asked at once or one after the other, each gets its own answer."""
    server = _Server()
    requests = RequestMultiplexer(server, 60)
    first, second = (asyncio.create_task(requests.request("s", b"")) for _ in range(2))
    await _settle()
    server.answer(1, b"two")
    server.answer(0, b"one")
    assert ((await first).data, (await second).data) == (b"one", b"two")
    assert len(server.subscriptions) == 1


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    """The task would live on."""
    server = _Server()
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b""))
    await _settle()
    server.answer(0, b"{}")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_question_without_an_answer_times_out_and_is_forgotten() -> None:
    """A late answer finds nobody."""
    server = _Server()
    requests = RequestMultiplexer(server, 0.01)
    with pytest.raises(TimeoutError):
        await requests.request("s", b"")
    server.answer(0, b"late")
    assert not requests._pending


async def test_nobody_to_answer_is_said_at_once() -> None:
    """NATS answers for those who are not there."""
    server = _Server()
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b""))
    await _settle()
    server.answer(0, b"", {"Status": "503"})
    with pytest.raises(nats.errors.NoRespondersError):
        await task


async def test_a_question_may_have_many_answers() -> None:
    """Whoever asks says which one is the last."""
    server = _Server()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    taken: list[bytes] = []

    def take(message: Msg) -> None:
        taken.append(message.data)
        if message.data == b"end":
            done.set_result(7)

    task = asyncio.create_task(RequestMultiplexer(server, 60).request_many("s", b"", take, done))
    await _settle()
    for data in (b"a", b"b", b"end"):
        server.answer(0, data)
    assert await task == 7
    assert taken == [b"a", b"b", b"end"]


async def test_an_answer_that_cannot_be_read_is_told_to_who_asked() -> None:
    """It must not break the connection, over which others ask as well."""
    server = _Server()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(_message: Msg) -> None:
        raise ValueError("not a number")

    task = asyncio.create_task(RequestMultiplexer(server, 60).request_many("s", b"", take, done))
    await _settle()
    server.answer(0, b"?")
    with pytest.raises(ValueError, match="not a number"):
        await task


async def test_every_question_times_out_whenever_it_was_asked() -> None:
    """One timer does for all of them."""
    server = _Server()
    requests = RequestMultiplexer(server, 0.01)
    first = asyncio.create_task(requests.request("s", b""))
    await asyncio.wait([first], timeout=0.005)
    for question in (first, asyncio.create_task(requests.request("s", b""))):
        with pytest.raises(TimeoutError):
            await question
