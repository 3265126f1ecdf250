"""Everything that passes through a NATS server, and everything that it has on its disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from nats.aio.msg import Msg

from harness.processes.installation import Installation


class Wiretap:
    """What was heard on all subjects, and what lies in the folder of the server's streams."""

    def __init__(self, site: Installation, store: Path) -> None:
        self._site = site
        self._store = store
        self._heard: list[bytes] = []

    async def hear(self, message: Msg) -> None:
        """Keep a message, its subject and its headers."""
        headers = repr(message.headers or {}).encode()
        self._heard.append(b"\n".join([message.subject.encode(), headers, message.data]))

    async def all(self) -> dict[str, bytes]:
        """Return all bytes by where they were found."""
        await self._site.jetstream.client.flush()
        stored = await asyncio.to_thread(lambda: dict(self._on_disk()))
        return {"the wire": b"\n".join(self._heard), **stored}

    async def places_of(self, *words: str) -> list[tuple[str, str]]:
        """Return where which of some words turns up."""
        found = await self.all()
        return [
            (place, word)
            for place, content in found.items()
            for word in words
            if word.encode() in content
        ]

    def _on_disk(self) -> Iterator[tuple[str, bytes]]:
        # Also what was deleted or overwritten since: a block is rewritten late, or never.
        for file in self._store.rglob("*"):
            if file.is_file():
                with contextlib.suppress(FileNotFoundError):
                    yield str(file.relative_to(self._store)), file.read_bytes()


@contextlib.asynccontextmanager
async def wiretap(site: Installation, store: Path) -> AsyncIterator[Wiretap]:
    """Hear everything from now on."""
    tap = Wiretap(site, store)
    subscription = await site.jetstream.client.subscribe(">", cb=tap.hear)
    await site.jetstream.client.flush()
    try:
        yield tap
    finally:
        await subscription.unsubscribe()
