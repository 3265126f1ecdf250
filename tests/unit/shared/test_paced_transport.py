"""A connection that waits between two reads, as long as the client sends nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlparse

from tailrace_shared.nats.connection.paced_transport import PacedTransport

_BYTES = 1024
_NEVER_S = 3600.0


@asynccontextmanager
async def connected(interval: float) -> AsyncIterator[tuple[PacedTransport, asyncio.StreamWriter]]:
    """Return a connected transport, and what its server writes to."""
    peers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.put_nowait(writer)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        transport = PacedTransport(interval)
        await transport.connect(urlparse(f"nats://{host}:{port}"), _BYTES, 10)
        peer = await peers.get()
        yield transport, peer
        transport.close()
        peer.close()


async def send(peer: asyncio.StreamWriter, data: bytes) -> None:
    peer.write(data)
    await peer.drain()
    # The event loop would have read it.
    for _ in range(20):
        await asyncio.sleep(0)


async def test_messages_that_arrive_within_the_interval_are_read_together() -> None:
    """The event loop does not wake up for each."""
    async with connected(0.2) as (transport, peer):
        reading = asyncio.create_task(transport.read(_BYTES))
        await send(peer, b"a")
        await send(peer, b"b")
        assert await reading == b"ab"


async def test_what_the_client_sends_ends_the_wait() -> None:
    """It may be a request, whose answer is read at once."""
    async with connected(_NEVER_S) as (transport, peer):
        reading = asyncio.create_task(transport.read(_BYTES))
        await send(peer, b"live")
        assert not reading.done()
        transport.write(b"request")
        assert await reading == b"live"
        transport.writelines([b"another"])
        reading = asyncio.create_task(transport.read(_BYTES))
        await send(peer, b"answer")
        assert await reading == b"answer"


async def test_a_connection_that_ends_meanwhile_is_noticed() -> None:
    """At the next read."""
    async with connected(0.1) as (transport, peer):
        reading = asyncio.create_task(transport.read(_BYTES))
        await send(peer, b"last")
        peer.close()
        assert await reading == b"last"
        assert await transport.read(_BYTES) == b""


async def test_it_counts_as_connected_before_it_is() -> None:
    """nats-py replaces a transport that does not."""
    assert PacedTransport(1.0)
