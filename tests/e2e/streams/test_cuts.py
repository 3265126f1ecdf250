"""Cut anywhere, resumed anywhere: the union of what a client gets is the log.

Connections are cut after a number of bytes, in the middle of heads, chunks, lines and characters,
and each goes on at another replica with the last id of the one before. For any cuts, each
event of the log must arrive once and in order, and the last answer must be 204.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import nats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient, SseEvent
from tailrace_shared.execution.commits import decode_slice, split_commit
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

_FIXTURES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_CUTS = st.lists(st.integers(1, 3000), max_size=8)
_COMMITS = st.lists(st.integers(0, 5), min_size=1, max_size=25)

Received = list[tuple[str, str, str]]


class CutReader:
    """Reads one execution over as many connections as the cuts make."""

    def __init__(self, ports: Sequence[int], log: HandWrittenLog, cuts: Iterator[int]) -> None:
        self.received: Received = []
        self.statuses: list[int] = []
        self._ports = ports
        self._log = log
        self._cuts = cuts
        self._last_event_id = ""

    async def read(self) -> None:
        """Read until a replica answers 204."""
        while 204 not in self.statuses:
            await self._connection(self._ports[len(self.statuses) % len(self._ports)])

    async def _connection(self, port: int) -> None:
        path = f"/api/v1/sse/executions/{self._log.execution}/stream"
        async with SseClient(port, path, last_event_id=self._last_event_id) as stream:
            cut = next(self._cuts)
            events = await (stream.until_cut(cut) if cut else stream.all())
        self.statuses.append(stream.status)
        self._take(events)
        # What a browser remembers is the id of the last whole block.
        self._last_event_id = stream.parser.last_event_id or self._last_event_id

    def _take(self, events: list[SseEvent]) -> None:
        assert "stream:reset" not in {event.type for event in events}
        self.received += [(event.id, event.type, event.data) for event in events if event.is_logged]


async def _stored(log: HandWrittenLog) -> Received:
    """Return what a client should get, from the log itself."""
    reader = ExecutionLog(JetStream(log.client), Subjects())
    epoch = (await reader.edge()).epoch
    return [
        (f"{epoch}-{commit.sequence}-{index}", decode_slice(event).type, bytes(event).decode())
        async for commit in reader.read(log.tenant, log.execution)
        for index, event in enumerate(split_commit(commit.payload))
    ]


async def _write(log: HandWrittenLog, commits: Sequence[int]) -> None:
    await log.commit(written.started(log.execution), written.step_started("n"))
    for number, size in enumerate(commits):
        # Few commits are large, most are small, some carry characters of four bytes.
        text = "🌊" * (4000 if size == 5 else number % 7)
        events = [written.step_progress("n", number), written.step_log("n", text)]
        await log.commit(*(events * size)[: size + 1])
    await log.commit(written.step_completed("n"), written.completed(log.execution))


@given(commits=_COMMITS, cuts=_CUTS)
@_FIXTURES
def test_cut_after_the_end(
    replicas: list[ApiProcess], idle_nats: NatsServer, commits: list[Any], cuts: list[int]
) -> None:
    """All of the log is there when the client comes for the first time."""

    async def scenario() -> None:
        client = await nats.connect(idle_nats.url.split(","))
        log = HandWrittenLog(client)
        await log.commit(written.queued(log.execution))
        await _write(log, commits)
        reader = CutReader([replica.port for replica in replicas], log, chain(cuts, repeat(0)))
        await reader.read()
        assert reader.received == await _stored(log)
        assert set(reader.statuses) <= {0, 200, 204}
        await client.close()

    asyncio.run(scenario())


@given(commits=_COMMITS, cuts=_CUTS, seed=st.integers(0, 2**32))
@_FIXTURES
def test_cut_while_the_run_is_going(
    replicas: list[ApiProcess],
    idle_nats: NatsServer,
    commits: list[Any],
    cuts: list[int],
    seed: int,
) -> None:
    """The log grows while three clients read, each cut on its own."""

    async def scenario() -> None:
        client = await nats.connect(idle_nats.url.split(","))
        log = HandWrittenLog(client)
        await log.commit(written.queued(log.execution))
        dice = random.Random(seed)
        readers = []
        for _ in range(3):
            ports = [replica.port for replica in replicas]
            dice.shuffle(ports)
            own_cuts = chain(cuts, (dice.randrange(1, 2000) for _ in range(6)), repeat(0))
            readers.append(CutReader(ports, log, own_cuts))
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read())
            group.create_task(_write(log, commits))
        expected = await _stored(log)
        for reader in readers:
            assert reader.received == expected
        await client.close()

    asyncio.run(scenario())
