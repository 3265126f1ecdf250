"""Thousands of seeded stream lifetimes in memory: the union of a client's events is the log.

Live messages get lost, replicas lag, the API loses NATS and finds it again, is killed and begins
anew, clients stop reading, fall behind, leave, and come back to another replica with the last id
that they have. Each must get every event once and in order. The same with real processes, fewer
times, is in `tests/e2e/streams`.
"""

import asyncio
from typing import Final

import pytest

from harness.fakes.faulty_hubs import FaultyHubs, place, try_seeds
from harness.fakes.memory_client import MemoryClient
from harness.generators import hand_written_log as written
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import encode_commits, split_commit
from tailrace_shared.execution.events import Event

_SEEDS: Final = 2000
_PARTS: Final = 20


class World(FaultyHubs):
    """One execution, which all clients read."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.expected: list[tuple[int, int, str]] = []

    async def write(self) -> None:
        """Write the execution, its commits apart by nothing up to a second."""
        pace = self.dice.choice([0, 0.01, 0.3, 1])
        self._commit(written.queued("e"))
        for number in range(self.dice.randint(1, 30)):
            await asyncio.sleep(self.dice.uniform(0, pace))
            if self.dice.random() < 0.3:
                self.nats.append("t", "other", b"[]")
            size = self.dice.choice([1, 1, 1, 2, 5])
            text = "x" * self.dice.choice([0, 10, 3000])
            self._commit(*[written.step_log("n", f"{number}.{i}{text}") for i in range(size)])
        self._commit(written.completed("e"))
        self.is_written = True

    def _commit(self, *events: Event) -> None:
        (payload,) = encode_commits(events)
        sequence = self.nats.append("t", "e", payload)
        self.expected += [
            (sequence, index, bytes(slice_).decode())
            for index, slice_ in enumerate(split_commit(payload))
        ]

    async def read(self) -> None:
        """Run a client until it has read everything."""
        received: list[tuple[int, int, str]] = []
        last_event_id = ""
        while True:
            await asyncio.sleep(self.dice.uniform(0, 0.3))
            if not self.replicas:
                continue
            client = MemoryClient()
            try:
                is_over = await self._connection(client, last_event_id)
            except UnavailableError:
                continue
            if is_over:
                break
            for event in client.events:
                assert event.type != "stream:reset", event
                if event.is_logged:
                    received.append((*place(event.id), event.data))
            last_event_id = client.parser.last_event_id or last_event_id
        assert received == self.expected

    async def _connection(self, client: MemoryClient, last_event_id: str) -> bool:
        if self.dice.random() < 0.3:
            client.takes_only(self.dice.randint(0, 5000))
        replica = self.dice.choice(self.replicas)
        connecting = asyncio.ensure_future(replica.connect(client, "e", last_event_id))
        try:
            async with asyncio.timeout(self.dice.choice([0.01, 0.5, 3, 60])):
                if (await asyncio.shield(connecting)).is_over:
                    return True
                while not (client.ended.is_set() or client.is_cut):
                    await asyncio.sleep(0.05)
                    if self.dice.random() < 0.2:
                        client.resume()
        except TimeoutError:
            client.leave()
            await connecting
        return False

    async def run(self) -> None:
        """Let it all happen."""
        await self.last(self.write(), [self.read() for _ in range(3)])


@pytest.mark.timeout(300)  # it is all computing, and a machine may have much else to do
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_client_gets_the_log(part: int) -> None:
    """Once and in order, and the replicas give back everything."""
    seeds = range(part * _SEEDS // _PARTS, (part + 1) * _SEEDS // _PARTS)
    try_seeds(lambda seed: World(seed).run(), seeds)
