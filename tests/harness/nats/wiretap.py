"""A wiretap on NATS, which records all messages on the wire and reads all bytes on disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from nats.aio.msg import Msg

from harness.processes.installation import Installation


class Wiretap:
    """The messages of all subjects, and the files of the server's streams."""

    def __init__(self, site: Installation, store: Path) -> None:
        self._site = site
        self._store = store
        self._messages: list[bytes] = []

    async def record(self, message: Msg) -> None:
        """Record a message with its subject and headers."""
        headers = repr(message.headers or {}).encode()
        self._messages.append(b"\n".join([message.subject.encode(), headers, message.data]))

    async def all(self) -> dict[str, bytes]:
        """Return all bytes, by the place where they were found."""
        await self._site.jetstream.client.flush()
        stored = await asyncio.to_thread(lambda: dict(self._on_disk()))
        return {"the wire": b"\n".join(self._messages), **stored}

    async def places_of(self, *words: str) -> list[tuple[str, str]]:
        """Return each place in which one of the words occurs, with that word."""
        found = await self.all()
        return [
            (place, word)
            for place, content in found.items()
            for word in words
            if word.encode() in content
        ]

    def _on_disk(self) -> Iterator[tuple[str, bytes]]:
        # Blocks still contain deleted and overwritten messages: they are rewritten late, or never.
        for file in self._store.rglob("*"):
            if file.is_file():
                with contextlib.suppress(FileNotFoundError):
                    yield str(file.relative_to(self._store)), file.read_bytes()


@contextlib.asynccontextmanager
async def wiretap(site: Installation, store: Path) -> AsyncIterator[Wiretap]:
    """Record every message from now on."""
    tap = Wiretap(site, store)
    subscription = await site.jetstream.client.subscribe(">", cb=tap.record)
    await site.jetstream.client.flush()
    try:
        yield tap
    finally:
        await subscription.unsubscribe()
