"""Responses of a process that stops end their connections, except those that began before."""

import asyncio
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tailrace_api.middleware.draining import Draining


class Process:
    """A process, and an application whose responses wait until they are let go."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.is_draining = False
        self.may_answer = asyncio.Event()
        self._headers = headers
        self._entry = Draining(self._answer, lambda: self.is_draining)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.may_answer.wait()
        await Response(b"", headers=self._headers)(scope, receive, send)

    async def request(self) -> list[bytes]:
        """Send a request; return the values of the header ``Connection``."""
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await self._entry({"type": "http", "method": "GET"}, receive, send)
        return [value for name, value in sent[0]["headers"] if name == b"connection"]


async def test_a_process_that_stops_closes_connections() -> None:
    process = Process({})
    process.may_answer.set()
    assert await process.request() == []
    process.is_draining = True
    assert await process.request() == [b"close"]


async def test_a_response_has_only_one_such_header() -> None:
    """Its own is the one."""
    for own in ("close", "keep-alive"):
        process = Process({"connection": own})
        process.may_answer.set()
        process.is_draining = True
        assert await process.request() == [own.encode()]


async def test_a_stream_that_was_being_opened_stays_open() -> None:
    """Or its client could not tell a cut from the end."""
    process = Process({})
    opening = asyncio.create_task(process.request())
    await asyncio.sleep(0)
    process.is_draining = True
    process.may_answer.set()
    assert await opening == []
