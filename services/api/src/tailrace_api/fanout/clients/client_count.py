"""The number of a tenant's clients over all API replicas.

The number of replicas is unknown. So the request goes to all of them, and those that reply within a
short time are counted.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.nats.nats_requests import multiplexer_of
from tailrace_shared.subjects import Subjects

_GATHER_S: Final = 0.1
_TIMEOUT_S: Final = 5.0


class Clients(NamedTuple):
    """Clients of a tenant."""

    streams: int
    replicas: int


class ClientCount:
    """Requests the count from all replicas, and replies for this one.

    Args:
        streams_of: returns the number of a tenant's streams on this replica.
    """

    def __init__(
        self, client: Client, subjects: Subjects, streams_of: Callable[[str], int]
    ) -> None:
        self._client = client
        self._subject = subjects.clients()
        self._streams_of = streams_of
        self._requests = multiplexer_of(client, _TIMEOUT_S)

    async def listen(self) -> None:
        """Reply to requests from now on."""
        await self._client.subscribe(self._subject, cb=self._reply)

    async def of(self, tenant: str) -> Clients:
        """Return the clients of a tenant; only those of this replica if NATS is unavailable."""
        counts: list[int] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(_GATHER_S, _finish, done)
        try:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self._requests.request_many(
                    self._subject, tenant.encode(), lambda reply: _collect(reply, counts), done
                )
        finally:
            timer.cancel()
        return Clients(sum(counts), len(counts)) if counts else Clients(self._streams_of(tenant), 1)

    async def _reply(self, request: Msg) -> None:
        count = self._streams_of(request.data.decode(errors="replace"))
        with contextlib.suppress(nats.errors.Error):
            await request.respond(b"%d" % count)


def _collect(reply: Msg, counts: list[int]) -> None:
    # The NATS server itself replies, without data, if no replica listens.
    if reply.data:
        counts.append(int(reply.data))


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
