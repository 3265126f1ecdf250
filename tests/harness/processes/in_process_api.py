"""The API inside the test's own event loop, so that a test can look into it and break it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from harness.sse.client import SseClient
from tailrace_api.app import create_app
from tailrace_api.fanout.hub import Hub
from tailrace_api.http.direct_writer import DirectOutlet
from tailrace_api.server import Server, bind
from tailrace_shared.settings import ApiSettings


class InProcessApi(NamedTuple):
    """An API that serves on a port of its own."""

    port: int
    hub: Hub
    server: Server

    async def sockets(self, count: int) -> None:
        """Wait until the server has just so many open connections."""
        while len(self.server.server_state.connections) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def is_live(self, client: SseClient) -> bool:
        """Tell whether a client's stream has written all that there was, and waits for more."""
        port = client.local_port
        for connection in self.hub._connections:
            outlet = connection._outlet
            assert isinstance(outlet, DirectOutlet)
            peer = outlet._transport.get_extra_info("peername")
            if peer is not None and peer[1] == port:
                ring = connection._ring
                return ring is not None and connection._sequence > ring.edge
        return False

    async def settled(self, connections: int = 0, topics: int = 0, subscriptions: int = 0) -> None:
        """Wait until the hub holds just so much."""
        # Production code has no use for an event here.
        while self.hub.sizes != (connections, topics, subscriptions):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def api_in_process(nats_url: str, **settings: Any) -> AsyncIterator[InProcessApi]:
    """Serve in this event loop."""
    values = ApiSettings(nats_url=nats_url, port=0, **settings)
    listener = bind(values)
    port = listener.getsockname()[1]
    with contextlib.closing(listener):
        async with create_app(values) as api:
            server = Server(api, values)
            serving = asyncio.create_task(server.serve([listener]))
            try:
                while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
                    await asyncio.sleep(0.01)
                yield InProcessApi(port, api.hub, server)
            finally:
                server.should_exit = True
                await serving
