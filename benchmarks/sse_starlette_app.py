"""A typical sse-starlette application: a queue for each client, filled by a NATS subscription.

It receives the same republished commits as Tailrace's hub and sends the same SSE fields.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator

import nats
import uvicorn
import uvloop
from nats.aio.msg import Msg
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

_queues: set[asyncio.Queue[ServerSentEvent]] = set()


async def _received(message: Msg) -> None:
    # A commit is a list of events; the benchmark's commits hold one.
    event = ServerSentEvent(
        message.data[1:-1].decode(),
        event="step:log",
        id=(message.headers or {})["Nats-Sequence"],
    )
    for queue in _queues:
        queue.put_nowait(event)


async def _stream(_request: Request) -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        _queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            _queues.discard(queue)

    return EventSourceResponse(events())


async def _serve(listener: socket.socket) -> None:
    client = await nats.connect(os.environ["NATS_URL"])
    await client.subscribe(os.environ["SUBJECT"], cb=_received)
    await client.flush()
    with contextlib.closing(listener):
        app = Starlette(routes=[Route("/", _stream)])
        config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")
        await uvicorn.Server(config).serve([listener])


def main() -> None:
    """Serve on a free port, and print its number."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(listener))


if __name__ == "__main__":
    main()
