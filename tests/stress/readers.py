"""SSE clients that are cut all the time and resume on another replica, and what they must get."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from harness.models.log_reading import Record
from harness.sse.client import SseClient, SseEvent
from tailrace_shared.execution.commits import decode_slice, split_commit

_RETRY_S: Final = 0.1
_CONNECTION_S: Final = (0.2, 3.0)
_PATIENCE_S: Final = 60.0
"""The longest life of a connection that brings nothing."""
_MAX_FRUITLESS: Final = 8


class Received(NamedTuple):
    """An event that a client has received.

    Attributes:
        at: the time, in seconds since the epoch.
    """

    id: str
    type: str
    data: str
    at: float


class Connection(NamedTuple):
    """A connection of a client.

    Attributes:
        port: the port of the replica.
        last_event_id: the id that the client sent.
        first: the place of its first event among those of all connections.
    """

    port: int
    last_event_id: str
    first: int


class Reader:
    """A client of one stream over many connections.

    Attributes:
        received: the events of all connections.
        connections: all connections so far.
        began: when it connected first, in seconds since the epoch.
        problems: responses that must not occur.
    """

    def __init__(self, ports: Sequence[int], path: str, tenant: str, source: Random) -> None:
        self.path = path
        self.received: list[Received] = []
        self.connections: list[Connection] = []
        self.began = 0.0
        self.problems: list[str] = []
        self.last_event_id = ""
        self._ports = ports
        self._tenant = tenant
        self._source = source
        # How many connections in a row were cut before they brought anything.
        self._fruitless = 0

    async def read(self, until: Callable[[], bool] | None = None) -> None:
        """Read until a replica answers 204, or until a condition is true between connections."""
        self.began = self.began or time.time()
        while not await self._connection():
            if self.problems or (until is not None and until()):
                return

    async def _connection(self) -> bool:
        """Read one connection until it is cut; return whether the stream has ended."""
        port = self._source.choice(self._ports)
        self.connections.append(Connection(port, self.last_event_id, len(self.received)))
        headers = {"x-organization-id": self._tenant}
        client = SseClient(port, self.path, last_event_id=self.last_event_id, headers=headers)
        # A slow machine may need longer to open a stream than a connection lives.
        lifetime = min(self._source.uniform(*_CONNECTION_S) * 2**self._fruitless, _PATIENCE_S)
        self._fruitless = min(self._fruitless + 1, _MAX_FRUITLESS)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(lifetime), client as stream:
                while (events := await stream.read()) is not None:
                    self._take(events)
                    if events or stream.parser.comments or stream.parser.positions:
                        self._fruitless = 0
                    self.last_event_id = stream.parser.last_event_id or self.last_event_id
                    if stream.is_complete:
                        break
        if client.status == 404:
            self.problems.append(f"{self.path} was answered 404")
        if client.status not in {200, 204}:
            await asyncio.sleep(_RETRY_S)
        return client.status == 204

    def _take(self, events: Sequence[SseEvent]) -> None:
        now = time.time()
        for event in events:
            if event.type == "stream:reset":
                self.problems.append(f"{self.path} was reset: {event.data}")
            if event.is_logged:
                self.received.append(Received(event.id, event.type, event.data, now))

    def _differences(self, received: Sequence[Any], expected: Sequence[Any]) -> list[str]:
        """Return how events differ from those expected; ``received`` are all that it received."""
        if list(received) == list(expected):
            return []
        ids = [event[0] for event in received]
        wanted = [event[0] for event in expected]
        twice = [
            f"{each} {self._where(ids.index(each))} and {self._where(place)}"
            for place, each in enumerate(ids)
            if each in ids[:place]
        ]
        missing = [event for event in wanted if event not in set(ids)]
        extra = [event for event in ids if event not in set(wanted)]
        return [
            f"{self.path}: {len(ids)} events received, {len(wanted)} expected; "
            f"{len(twice)} twice {twice[:3]}, "
            f"{len(missing)} missing {missing[:3]}, {len(extra)} not in the log {extra[:3]}"
            + ("" if twice or missing or extra else ", out of order or with other data")
        ]

    def _where(self, place: int) -> str:
        """Return on which connection the event at a place among all events was received."""
        number = sum(each.first <= place for each in self.connections)
        at = self.connections[number - 1]
        came = f"after {at.last_event_id!r} at port {at.port}"
        return f"as event {place}, number {place - at.first} of connection {number}, {came}"


class ExecutionReader(Reader):
    """A client of an execution's stream."""

    def __init__(self, ports: Sequence[int], execution: str, tenant: str, source: Random) -> None:
        super().__init__(ports, f"/api/v1/sse/executions/{execution}/stream", tenant, source)
        self.execution = execution

    def wrong(self, record: Record, epoch: str) -> list[str]:
        """Return how the received events differ from the log."""
        logged = [
            (f"{epoch}-{commit.sequence}-{index}", decode_slice(event).type, bytes(event).decode())
            for commit in record.commits
            for index, event in enumerate(split_commit(commit.payload))
        ]
        received = [(event.id, event.type, event.data) for event in self.received]
        return [*self.problems, *self._differences(received, logged)]

    def lags(self, record: Record) -> list[float]:
        """Return for each event how long after it was stored the client received it, in seconds.

        Only events that were stored after the client came; those before are history.
        """
        stored = {commit.sequence: commit.time for commit in record.commits}
        return [
            event.at - stored[sequence]
            for event in self.received
            if (sequence := int(event.id.split("-")[1])) in stored and stored[sequence] > self.began
        ]


class FeedReader(Reader):
    """A client of a tenant's feed, which is compared with a replay of the same part."""

    def __init__(self, ports: Sequence[int], tenant: str, source: Random) -> None:
        super().__init__(ports, "/api/realtime/events", tenant, source)

    async def wrong(self, bound: float) -> list[str]:
        """Return how the received events differ from what a later client gets of the same part.

        Args:
            bound: the time for that client, in seconds.
        """
        if len(self.received) < 2:
            return self.problems
        first, last = self.received[0], self.received[-1]
        replay = FeedReader(self._ports, self._tenant, self._source)
        replay.last_event_id = first.id
        async with asyncio.timeout(bound):
            await replay.read(lambda: last.id in {event.id for event in replay.received})
        replayed: list[Any] = []
        for event in replay.received:
            replayed.append((event.id, event.type, event.data))
            if event.id == last.id:
                break
        received = [(event.id, event.type, event.data) for event in self.received]
        expected = [received[0], *replayed]
        return [*self.problems, *replay.problems, *self._differences(received, expected)]
