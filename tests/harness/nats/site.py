"""The streams and buckets of one test, under its own subject prefix on the shared NATS."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from nats.aio.client import Client

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import EVENTS, StreamSpec, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects


async def create_streams(jetstream: JetStream, specs: Sequence[StreamSpec]) -> None:
    """Create the streams and buckets of an installation, all at once: a cluster takes its time."""
    await asyncio.gather(*(_create(jetstream, spec) for spec in specs))


async def _create(jetstream: JetStream, spec: StreamSpec) -> None:
    for pause in (0.5, 1.0, 2.0, 4.0, 8.0, None):
        try:
            await ensure(jetstream, [spec])
        except UnavailableError:
            # A cluster on a busy machine elects leaders slowly.
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def install(settings: CommonSettings) -> None:
    """Create the streams and buckets of an installation over a connection of its own."""
    client = await connect(settings, "test")
    await create_streams(JetStream(client), topology(settings))
    await client.close()


async def delete_streams(jetstream: JetStream, specs: Sequence[StreamSpec]) -> None:
    """Delete the streams and buckets of an installation, except those that its test deleted."""

    async def delete(spec: StreamSpec) -> None:
        try:
            # What is not deleted in time costs other tests only memory.
            with contextlib.suppress(UnavailableError):
                await jetstream.api(f"STREAM.DELETE.{spec.name}")
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise

    await asyncio.gather(*map(delete, specs))


@dataclass(frozen=True, slots=True)
class Site:
    """An installation without services: a prefix, its streams, and a connection."""

    settings: CommonSettings
    client: Client
    jetstream: JetStream
    subjects: Subjects

    @property
    def events(self) -> str:
        """The name of the stream that holds the log."""
        return self.subjects.stream(EVENTS)

    @property
    def log(self) -> ExecutionLog:
        """The log, read as the services read it."""
        return ExecutionLog(self.jetstream, self.subjects)

    async def commit(
        self, execution: str, *events: Event, tenant: str = "t", writer: str = "worker"
    ) -> int:
        """Append events after the last commit of an execution; return the sequence."""
        last = await self.log.last_commit(tenant, execution)
        (payload,) = encode_commits(events)
        return await append(
            self.jetstream,
            self.events,
            self.subjects.log(tenant, execution),
            payload,
            expected=0 if last is None else last.sequence,
            writer=writer,
        )

    async def count(self, stream: str) -> int:
        """Return the number of messages in a stream (of a bucket: ``KV_…``)."""
        info = await self.jetstream.api(f"STREAM.INFO.{stream}")
        held: int = info["state"]["messages"]
        return held

    async def taken(self, stream: str) -> int:
        """Return the number of messages that a stream (of a bucket: ``KV_…``) has ever taken."""
        info = await self.jetstream.api(f"STREAM.INFO.{stream}")
        last: int = info["state"]["last_seq"]
        return last
