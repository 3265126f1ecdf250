"""The API in the event loop of the test, so that a test can inspect and break it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from harness.sse.client import SseClient
from tailrace_api.app import create_app
from tailrace_api.fanout.hub import Hub
from tailrace_api.http.direct_writer import DirectWriter
from tailrace_api.server import Server, bind
from tailrace_shared.settings import ApiSettings


class InProcessApi(NamedTuple):
    """A running API and its parts."""

    port: int
    hub: Hub
    server: Server

    async def sockets(self, count: int) -> None:
        """Wait until the server has exactly ``count`` open connections."""
        while len(self.server.server_state.connections) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def is_live(self, client: SseClient) -> bool:
        """Return whether a client has received its backlog and now waits for live commits."""
        port = client.local_port
        for connection in self.hub._connections:
            writer = connection.writer
            assert isinstance(writer, DirectWriter)
            peer = writer._transport.get_extra_info("peername")
            if peer is not None and peer[1] == port:
                ring = connection.ring
                return ring is not None and connection.sequence > ring.newest
        return False

    async def all_live(self) -> None:
        """Wait until every connection reads from a ring; before that, from the log."""
        while not all(each.ring for each in self.hub._connections):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def settled(self, connections: int = 0, topics: int = 0, subscriptions: int = 0) -> None:
        """Wait until the hub has exactly these numbers of objects."""
        # The product has no event for this.
        while self.hub.sizes != (connections, topics, subscriptions):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def api_in_process(nats_url: str, **settings: Any) -> AsyncIterator[InProcessApi]:
    """Run the API in this event loop, on a free port."""
    values = ApiSettings(nats_url=nats_url, port=0, **settings)
    listener = bind(values)
    port = listener.getsockname()[1]
    with contextlib.closing(listener):
        async with create_app(values) as api:
            server = Server(api, values)
            serving = asyncio.create_task(server.serve([listener]))
            try:
                while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                    await asyncio.sleep(0.01)
                yield InProcessApi(port, api.hub, server)
            finally:
                server.should_exit = True
                await serving
