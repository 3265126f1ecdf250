"""The services of an installation, each of which answers for itself over core NATS."""

import asyncio
import contextlib
import time
from importlib.metadata import version
from typing import Final, Literal

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.subjects import Subjects

Kind = Literal["api", "worker"]

_LISTEN_S: Final = 1.0


class Component(msgspec.Struct, frozen=True):
    """A service process.

    Attributes:
        id: its id, unique in the installation.
        clock: the time of its machine when it answered, in seconds since the epoch.
    """

    kind: Kind
    id: str
    version: str
    clock: float


def running_version() -> str:
    return version("tailrace-shared")


async def announce(client: Client, subjects: Subjects, kind: Kind, component_id: str) -> None:
    """Answer, from now on, that this process is part of the installation."""

    async def answer(request: Msg) -> None:
        component = Component(kind, component_id, running_version(), time.time())
        with contextlib.suppress(nats.errors.Error):
            await request.respond(msgspec.json.encode(component))

    await client.subscribe(subjects.components(), cb=answer)


async def discover(client: Client, subjects: Subjects) -> list[Component]:
    """Return the services that answer within a second. Those of Tailrace 0.2 do not answer."""
    found: list[Component] = []
    inbox = client.new_inbox()

    async def take(message: Msg) -> None:
        # NATS answers with an empty message if no service listens.
        if message.data:
            found.append(msgspec.json.decode(message.data, type=Component))

    subscription = await client.subscribe(inbox, cb=take)
    try:
        await client.publish(subjects.components(), reply=inbox)
        await asyncio.sleep(_LISTEN_S)
    finally:
        await subscription.unsubscribe()
    return sorted(found, key=lambda each: (each.kind, each.id))
