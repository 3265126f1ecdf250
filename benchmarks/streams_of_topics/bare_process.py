"""A server that only receives and writes: the floor of what a delivered event can cost.

It uses the event loop and the NATS client of the API. Each client of the server gets a head. Then
each message on ``SUBJECT``, ``<index of the first client> <number of clients> <text>``, is written
to these clients, in one write each.
"""

import asyncio
import sys
from typing import Final, cast

import nats
import uvloop
from nats.aio.msg import Msg

SUBJECT: Final = "bare"
_HEAD: Final = b"HTTP/1.1 200 OK\r\n\r\nid: 0-0-0\n\n"
_BACKLOG: Final = 4096


class _Client(asyncio.Protocol):
    def __init__(self, clients: list[asyncio.Transport]) -> None:
        self._clients = clients

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast("asyncio.Transport", transport)
        self._clients.append(client)
        client.write(_HEAD)


async def _serve(nats_url: str) -> None:
    loop, clients = asyncio.get_running_loop(), list[asyncio.Transport]()
    server = await loop.create_server(lambda: _Client(clients), "127.0.0.1", 0, backlog=_BACKLOG)
    connection = await nats.connect(nats_url)

    async def write(message: Msg) -> None:
        first, count, text = message.data.split(b" ", 2)
        for number in range(int(first), int(first) + int(count)):
            clients[number % len(clients)].write(text)

    await connection.subscribe(SUBJECT, cb=write)
    await connection.flush()
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
