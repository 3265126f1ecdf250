"""How many clients a tenant has, over all replicas of the API.

Every replica is asked at once, and whoever answers within a moment is counted: how many replicas
there are, nobody knows.
"""

import asyncio
import contextlib
from typing import Final, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_api.fanout.hub import Hub
from tailrace_shared.nats.nats_requests import multiplexer_of
from tailrace_shared.subjects import Subjects

_MOMENT: Final = 0.1
_TIMEOUT: Final = 5.0


class Clients(NamedTuple):
    """Clients of a tenant.

    Attributes:
        streams: how many streams they have open.
        replicas: how many replicas have answered.
    """

    streams: int
    replicas: int


class ClientCount:
    """Answers for this replica, and asks all.

    Args:
        client: the connection to NATS.
        subjects: of the installation.
        hub: what holds this replica's streams.
    """

    def __init__(self, client: Client, subjects: Subjects, hub: Hub) -> None:
        self._client = client
        self._subject = subjects.clients()
        self._hub = hub
        self._answers = multiplexer_of(client, _TIMEOUT)

    async def listen(self) -> None:
        """Answer from now on."""
        await self._client.subscribe(self._subject, cb=self._answer)

    async def of(self, tenant: str) -> Clients:
        """Return the clients of a tenant; those of this replica alone if NATS is away."""
        counted: list[int] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(_MOMENT, _end, done)
        try:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self._answers.request_many(
                    self._subject, tenant.encode(), lambda answer: _take(answer, counted), done
                )
        finally:
            timer.cancel()
        return Clients(sum(counted), len(counted)) if counted else Clients(self._here(tenant), 1)

    async def _answer(self, question: Msg) -> None:
        with contextlib.suppress(nats.errors.Error):
            await question.respond(b"%d" % self._here(question.data.decode(errors="replace")))

    def _here(self, tenant: str) -> int:
        return self._hub.streams_of(tenant)


def _take(answer: Msg, counted: list[int]) -> None:
    # That there are no replicas is an answer, too, of the server.
    if answer.data:
        counted.append(int(answer.data))


def _end(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
