"""Requests to JetStream, as far as they can be looked at without a server."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.jetstream import JetStream


class _Answering(Client):
    """Waits for an answer as nats-py does."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def request(self, *_: object, **__: object) -> Msg:
        return await asyncio.wait_for(self.answer, 5)


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    """asyncio.wait_for would swallow it, and the task would live on (python/cpython#86296)."""
    client = _Answering()
    task = asyncio.create_task(JetStream(client).api("INFO"))
    await asyncio.sleep(0)
    client.answer.set_result(Msg(client, data=b"{}"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_that_comes_with_the_answer_is_a_timeout() -> None:
    """A timeout is a cancellation inside; it must come out as itself."""
    client = _Answering()

    async def ask() -> None:
        async with asyncio.timeout(None) as limit:
            asyncio.get_running_loop().call_soon(client.answer.set_result, Msg(client, data=b"{}"))
            limit.reschedule(0)
            await JetStream(client).api("INFO")

    with pytest.raises(TimeoutError):
        await ask()


async def test_what_cleans_up_after_a_cancellation_may_still_ask() -> None:
    """Only a cancellation during the request counts, not one that came before."""
    client = _Answering()
    answers: list[object] = []

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            answers.append(await JetStream(client).api("INFO"))

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    client.answer.set_result(Msg(client, data=b'{"type": "x"}'))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answers == [{"type": "x"}]
